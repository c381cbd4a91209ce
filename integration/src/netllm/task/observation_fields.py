"""What an observation of one episode holds, field by field, as requests to a server spell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LARGEST = 3.4028234e38
"""The largest number of 32 bits, in which models compute."""


@dataclass(frozen=True)
class ObservationField:
    """One field of an observation of one episode; a batch of them has one axis more, in front."""

    text: str
    """What it is, with its unit where the name does not end with it."""
    shape: tuple[int | str, ...] = ()
    """Lengths of its axes. A first axis with a name has any length, the same in all fields that
    name it; a batch has its rows under one another, and `NAME_ptr` says where each episode's
    begin."""
    kind: type = float
    """float, int, bool or str."""
    least: float | None = None
    """The least value."""
    most: float | None = None
    """The largest value."""
    rows_of: str = ""
    """The axis whose rows its whole numbers are, counted within the episode; -1 is none of them
    where `least` is -1."""
    default: Any = None
    """Its value where a request leaves it out; None if it must be there."""

    @property
    def axis(self) -> str:
        """The name of its first axis, if that has one."""
        return self.shape[0] if self.shape and isinstance(self.shape[0], str) else ""


REWARD = ObservationField(
    "What the last action earned; anything at the first step.",
    least=-LARGEST,
    most=LARGEST,
    default=0.0,
)
"""Every policy that decides step after step is told of it."""


def fields_shown(observation: Mapping[str, np.ndarray]) -> dict[str, ObservationField]:
    """The fields of a batch of observations, as far as its arrays tell.

    Raises:
        ValueError: if one holds something else than numbers, truth values or text.
    """
    kinds: dict[str, type] = {"f": float, "i": int, "u": int, "b": bool, "U": str}
    fields = {"reward": REWARD}
    for name, values in observation.items():
        if name == "episode" or name in fields:
            continue
        if values.dtype.kind not in kinds:
            raise ValueError(
                f"The field {name!r} of an observation must hold numbers, truth values or text, "
                f"got {values.dtype}. Write the task's `observation_fields`."
            )
        fields[name] = ObservationField("", values.shape[1:], kinds[values.dtype.kind])
    return fields
