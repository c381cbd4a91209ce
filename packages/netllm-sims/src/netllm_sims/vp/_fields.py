"""Values of a setting's own kinds of fields, from text or Python."""

from collections.abc import Iterable
from pathlib import Path

from netllm_sims._fields import number


def names(field: str, value: str | Iterable[str]) -> tuple[str, ...]:
    """Names without folders; as text with commas between them."""
    given = value.split(",") if isinstance(value, str) else list(value)
    if not given or not all(isinstance(name, str) and name.strip() for name in given):
        raise ValueError(f"`{field}` must be one or more names, got {value!r}.")
    return tuple(name.strip().split("/")[-1] for name in given)


def angles(field: str, value: str | Iterable[object]) -> tuple[float, ...]:
    """Numbers; as text with commas between them."""
    given = value.split(",") if isinstance(value, str) else value
    return tuple(number(field, one) for one in given)


def existing(field: str, value: str | Path) -> Path:
    """The folder or file, which must be there."""
    path = Path(value).expanduser().resolve()
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such folder or file (`{field}`).")
    return path
