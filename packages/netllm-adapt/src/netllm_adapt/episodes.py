"""One episode: what was seen, done and earned, step by step; and what was still to be earned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num, Shaped

OBSERVED, FINAL = "observation.", "final."
"""Begin the names of the columns that hold what was observed, and after the last action."""
ENDS = ("", "terminated", "truncated")


class Ragged(NamedTuple):
    """Step k holds the rows ``values[ptr[k]:ptr[k + 1]]``, as arrays or as tensors.

    Being a plain pair, it crosses to encoders and heads, which know nothing of this package.
    """

    values: Any
    ptr: Any

    def steps(self, start: int, stop: int) -> Ragged:
        """The steps from `start` to before `stop`."""
        first, last = self.ptr[start], self.ptr[stop]
        return Ragged(self.values[first:last], self.ptr[start : stop + 1] - first)

    def to(self, device: Any) -> Ragged:
        """The same tensors on another device."""
        return Ragged(self.values.to(device), self.ptr.to(device))


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
    sha256 = hashlib.sha256()
    for episode in episodes:
        arrays = arrays_of(episode) | final_of(episode)
        sha256.update(repr((episode.id, episode.policy, episode.seed, sorted(arrays))).encode())
        for _, value in sorted(arrays.items()):
            for part in value if isinstance(value, Ragged) else [value]:
                sha256.update(f"{part.dtype} {part.shape}".encode())
                sha256.update(part.tobytes())
    return sha256.hexdigest()


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


def return_to_go(
    rewards: Num[np.ndarray, "*episode step"] | Bool[np.ndarray, "*episode step"],
    *,
    discount: float = 1.0,
) -> Float[np.ndarray, "*episode step"]:
    """Sum of the rewards from each step to its episode's end, in the reward's unit.

    G_t = r_t + discount · G_{t+1}, along the last axis; other axes are episodes of equal length
    and never mix. Summed in float64 and given in the rewards' own float type; of whole numbers and
    truth values in float64.

    Args:
        rewards: Rewards of one episode, or of several of equal length.
        discount: Weight of the next step's return; 1 for the undiscounted sum.

    Raises:
        ValueError: If `discount` does not lie between 0 and 1.

    Source: Decision Transformer (Chen et al., NeurIPS 2021), section 3, undiscounted. The public
    NetLLM code min-max scales the rewards by the worst one of the pool first; we do not.
    """
    if not 0 <= discount <= 1:
        raise ValueError(f"`discount` must lie between 0 and 1, got {discount!r}.")
    returns = np.asarray(rewards, dtype=np.float64).copy()
    if discount == 1:
        returns = np.cumsum(returns[..., ::-1], axis=-1)[..., ::-1]
    else:
        for step in range(returns.shape[-1] - 2, -1, -1):
            returns[..., step] += discount * returns[..., step + 1]
    own = np.asarray(rewards).dtype
    return np.ascontiguousarray(returns, dtype=own if own.kind == "f" else np.float64)
