"""The simulator: senders, each alone on a link with a queue, all stepped at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FACTORS = np.array([0.5, 0.9, 1.0, 1.1, 1.5])
"""What an answer, an index, does to the rate."""
FIRST_SEED = {"train": 1_000_000, "valid": 2_000_000, "test": 3_000_000}


@dataclass(frozen=True)
class Setting:
    """One environment configuration."""

    name: str
    mean_mbps: float = 10.0
    """Mean capacity of a link."""
    swing: float = 0.2
    """Standard deviation of the logarithm of its changes from step to step."""
    queue_steps: float = 2.0
    """What the queue holds, in steps of the mean capacity."""
    steps: int = 50
    """Round-trip times in an episode."""
    synthetic: bool = True

    def __post_init__(self) -> None:
        for field in ("mean_mbps", "queue_steps", "steps"):
            if not getattr(self, field) > 0:
                raise ValueError(f"`{field}` must be > 0, got {getattr(self, field)}.")


@dataclass(frozen=True)
class Link:
    """An episode: a link whose capacity the seed draws."""

    id: str
    seed: int

    def capacity_mbps(self, setting: Setting) -> np.ndarray:
        """Its capacity in every step, (step,): it wanders, and comes back to the mean."""
        noise = np.random.default_rng(self.seed).normal(0, setting.swing, setting.steps)
        level = np.zeros(setting.steps)
        for step in range(1, setting.steps):
            level[step] = 0.9 * level[step - 1] + noise[step]
        return setting.mean_mbps * np.exp(level)


def links(part: str, count: int, seed: int) -> list[Link]:
    """The episodes of `train`, `valid` or `test`; seeds up to 999 share none."""
    first = FIRST_SEED[part] + 1_000 * seed
    return [Link(f"{part}-{first + i}", first + i) for i in range(count)]


class Senders:
    """One sender per link. A reward is delivered traffic less losses and waiting, per mean step."""

    def __init__(self, setting: Setting, episodes: Sequence[Link]) -> None:
        self._setting = setting
        self._capacity = np.stack([one.capacity_mbps(setting) for one in episodes])
        count = len(episodes)
        self._rate = np.full(count, setting.mean_mbps / 4)
        self._queue, self._lost, self._reward = (np.zeros(count) for _ in range(3))

    def observation(self) -> dict[str, np.ndarray]:
        """What a sender sees, (sender,) each; `reward` is the last step's, which returns need."""
        seen = {
            "rate_mbps": self._rate,
            "wait": self._queue / self._setting.mean_mbps,
            "lost": self._lost,
            "reward": self._reward,
        }
        return {name: values.astype(np.float32) for name, values in seen.items()}

    def step(self, actions: Any, step: int) -> np.ndarray:
        """Change the rates and send for one round-trip time; the rewards, (sender,)."""
        actions = np.asarray(actions)
        if actions.shape != self._rate.shape or actions.dtype.kind not in "iu":
            raise ValueError(f"An answer must be one whole number per sender, got {actions!r}.")
        mean = self._setting.mean_mbps
        self._rate = np.clip(self._rate * FACTORS[actions], mean / 100, mean * 100)
        capacity = self._capacity[:, step]
        waiting = self._queue + self._rate
        delivered = np.minimum(waiting, capacity)
        room = self._setting.queue_steps * mean
        self._queue = np.minimum(waiting - delivered, room)
        lost = waiting - delivered - self._queue
        self._lost = lost / self._rate
        self._reward = (delivered - 2 * lost - 0.5 * self._queue) / mean
        return self._reward
