"""What decides, and what it may say of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


class Policy(Protocol):
    """Anything that decides: a rule, a planner, a trained network, an adapted model.

    Observations and actions carry a leading batch axis. Two methods are all that it must have.
    What else it may have is read by `declared` and `validity` below, and by `netllm_sims.rollout`,
    which says what `begin` and `probabilities` are.
    """

    def reset(self, seed: int) -> None:
        """Begin new episodes; `seed` starts its random stream."""
        ...

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The next action of every episode."""
        ...


@dataclass(frozen=True)
class Declared:
    """What a policy says of itself, in attributes of these names."""

    sequential: bool = False
    """Whether it asks to run alone, episode by episode, with one reset: its numbers depend on state
    or a random stream carried across episodes."""
    knows: str = ""
    """What it decides by beyond the observation, in a few words; reports show it."""


def declared(policy: object) -> Declared:
    """What a policy says of itself."""
    return Declared(bool(getattr(policy, "sequential", False)), str(getattr(policy, "knows", "")))


def asked(policy: object) -> float | None:
    """The share of decisions since its last reset that a policy passed on to an adapted model.

    None of one that passes none on. A policy that does counts them as its attribute `asked`.
    """
    share: float | None = getattr(policy, "asked", None)
    return share


def validity(policy: object) -> float | None:
    """The share of a policy's own answers that stood since its last reset; None: all do.

    A policy that puts another answer in the place of its own, where that is not valid or not safe,
    counts them as its attribute `validity`; reports show it.
    """
    share: float | None = getattr(policy, "validity", None)
    return share
