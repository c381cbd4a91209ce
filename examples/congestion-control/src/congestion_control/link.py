"""The simulator: senders, each alone on a link with a queue, all stepped at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from netllm.task import Environment

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


class Senders(Environment):
    """One sender per link. A reward is delivered traffic less losses and waiting, per mean step."""

    answers = len(FACTORS)

    def __init__(self, setting: Setting, episodes: Sequence[Link]) -> None:
        self._setting = setting
        self._capacity = np.stack([one.capacity_mbps(setting) for one in episodes])
        self._rate = np.full(len(episodes), setting.mean_mbps / 4)
        self._queue, self._lost = np.zeros((2, len(episodes)))
        self._rewards: list[np.ndarray] = []
        self._losses: list[np.ndarray] = []

    def observation(self) -> dict[str, np.ndarray]:
        """What each sender sees: its rate, the queue in mean steps, and the share that was lost."""
        seen = {
            "rate_mbps": self._rate,
            "wait": self._queue / self._setting.mean_mbps,
            "lost": self._lost,
        }
        return {name: values.astype(np.float32) for name, values in seen.items()}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, bool]:
        """Change the rates and send for one round-trip time; rewards, and whether that was all."""
        mean = self._setting.mean_mbps
        self._rate = np.clip(self._rate * FACTORS[actions], mean / 100, mean * 100)
        waiting = self._queue + self._rate
        delivered = np.minimum(waiting, self._capacity[:, len(self._rewards)])
        room = self._setting.queue_steps * mean
        self._queue = np.minimum(waiting - delivered, room)
        lost = waiting - delivered - self._queue
        self._lost = lost / self._rate
        self._losses.append(self._lost)
        self._rewards.append((delivered - 2 * lost - 0.5 * self._queue) / mean)
        return self._rewards[-1], len(self._rewards) == self._setting.steps

    def figures(self) -> dict[str, np.ndarray]:
        """The metrics of every link: means over its steps."""
        return {"utility": np.mean(self._rewards, axis=0), "lost": np.mean(self._losses, axis=0)}
