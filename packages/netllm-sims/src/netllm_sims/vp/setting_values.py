"""Values of a setting's own kinds of fields, from text or Python."""

from collections.abc import Callable
from typing import Any

from netllm_sims.setting_values import existing, items, natural, number, unknown, word, yes_or_no
from netllm_sims.vp.trajectory_loading import GAPS


def names(field: str, value: object) -> tuple[str, ...]:
    """Names without folders; as text with commas between them."""
    given = [word(field, one).strip() for one in items(field, value)]
    if not given or not all(given):
        raise ValueError(f"`{field}` must be one or more names, got {value!r}.")
    return tuple(name.split("/")[-1] for name in given)


def angles(field: str, value: object) -> tuple[float, ...]:
    """Numbers; as text with commas between them."""
    return tuple(number(field, one) for one in items(field, value))


def gaps(field: str, value: object) -> str:
    """What to do with gaps."""
    chosen = word(field, value)
    if chosen not in GAPS:
        raise ValueError(f"`{field}`: {unknown('way with gaps', chosen, GAPS)}")
    return chosen


READERS: dict[str, Callable[[str, Any], Any]] = {
    "trajectories": existing,
    "frames": existing,
    "videos": names,
    "users": names,
    "rate_hz": number,
    "frames_hz": number,
    "front_deg": number,
    "fov_deg": angles,
    "gaps": gaps,
    "seed": natural,
    "memory": natural,
    "crowd": natural,
    "split": yes_or_no,
}
"""How the fields are read that are no whole numbers above 0."""
