"""Where the durations of tasks come from."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray


@dataclass(frozen=True)
class Sampled:
    """Draws from the profiles by counters: the same luck for every policy.

    Each task takes two uniforms that depend on the luck, its job, its stage and its number among
    the stage's started tasks, and on nothing else: one between two numbers of executors, one for
    the place ⌊u · length⌋ in the list. They come from splitmix64's finaliser.
    """

    luck: int = 0
    """Seed of the draws."""


@dataclass(frozen=True, eq=False)
class Replay:
    """Recorded durations in the order in which tasks start.

    Raises:
        ValueError: None, or one that is negative or not finite.
    """

    durations_ms: Float[ndarray, "task"]
    """The durations, one per task of the episode."""

    def __post_init__(self) -> None:
        values = np.asarray(self.durations_ms, np.float64)
        if not values.size or not np.all(np.isfinite(values) & (values >= 0)):
            raise ValueError("`durations_ms` must hold finite durations >= 0, at least one.")


Durations = Sampled | Replay
