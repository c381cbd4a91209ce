"""One episode: what was seen, done and earned, step by step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Num, Shaped

from netllm_adapt.ragged import Ragged

OBSERVED, FINAL = "observation.", "final."
"""Begin the names of the columns that hold what was observed, and after the last action."""
ENDS = ("", "terminated", "truncated")


@dataclass(kw_only=True, eq=False)
class Episode:
    """One episode: what was seen, done and earned at each step."""

    id: str
    """Names the episode within its collection, the trace it ran on say."""
    policy: str
    """Who acted."""
    seed: int
    """Of the policy and the environment."""
    observations: Mapping[str, Shaped[np.ndarray, "step ..."] | Ragged]
    """Per field its value, or any number of values, at every step."""
    actions: Shaped[np.ndarray, "step ..."]
    rewards: Num[np.ndarray, "step"]
    labels: Shaped[np.ndarray, "step ..."] | None = None
    """What is to be learned at every step: a better policy's answers, or their probabilities
    `(step, answers)`; None to learn the actions."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Anything else that JSON can hold."""
    final: Mapping[str, Shaped[np.ndarray, "..."]] | None = None
    """What is seen after the last action, by the same fields, without the axis of steps; None if
    that is not known."""
    ended: str = ""
    """`terminated` if the task itself ends there, `truncated` if it was cut off; empty if that is
    not known."""
    reason: str = ""
    """Why it ended, in words."""


def digest(episodes: Iterable[Episode]) -> str:
    """SHA-256 of all that the episodes hold, in hexadecimal: the same wherever they are kept."""
    found = hashlib.sha256()
    for episode in episodes:
        arrays = arrays_of(episode) | final_of(episode)
        found.update(repr((episode.id, episode.policy, episode.seed, sorted(arrays))).encode())
        for _, value in sorted(arrays.items()):
            for part in value if isinstance(value, Ragged) else [value]:
                found.update(f"{part.dtype} {part.shape}".encode())
                found.update(part.tobytes())
    return found.hexdigest()


def check_steps(episode: Episode) -> int:
    """How many steps an episode has.

    Raises:
        ValueError: If one of its fields has another number of them, or there is none.
    """
    arrays = arrays_of(episode)
    steps: int = arrays["rewards"].size
    for name, array in arrays.items():
        if _steps(array) != steps or steps == 0:
            got = f"rows {array.ptr}" if isinstance(array, Ragged) else f"shape {array.shape}"
            raise ValueError(
                f"episode {episode.id!r}: {name!r} must have one entry per reward, {steps}, and at "
                f"least one, got {got}."
            )
    return steps


def arrays_of(episode: Episode) -> dict[str, Any]:
    """The episode's arrays by the names of their columns."""
    arrays: dict[str, Any] = {
        OBSERVED + name: steps if isinstance(steps, Ragged) else np.asarray(steps)
        for name, steps in episode.observations.items()
    }
    arrays |= {"actions": np.asarray(episode.actions), "rewards": np.asarray(episode.rewards)}
    if episode.labels is not None:
        arrays["labels"] = np.asarray(episode.labels)
    return arrays


def _steps(array: np.ndarray | Ragged) -> int:
    if not isinstance(array, Ragged):
        return len(array) if array.ndim else 0
    whole = array.ptr[0] == 0 and array.ptr[-1] == len(array.values)
    return len(array.ptr) - 1 if whole and (np.diff(array.ptr) >= 0).all() else 0


def final_of(episode: Episode) -> dict[str, Any]:
    """What is seen after the last action, by the names of its columns, as fields of one step."""
    return {
        FINAL + name: Ragged(np.asarray(value), np.array([0, len(value)]))
        if isinstance(episode.observations.get(name), Ragged)
        else np.asarray(value)[None]
        for name, value in (episode.final or {}).items()
    }
