"""Choosing blindly."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from numpy import ndarray

if TYPE_CHECKING:
    from netllm_sims.cjs import Setting


class Random:
    """A uniformly random schedulable stage and number of executors; never waits.

    Args:
        setting: Without influence.
    """

    def __init__(self, setting: "Setting") -> None:
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Restart the random stream from `seed`."""
        self._rng = np.random.default_rng(seed)

    def act(self, observation: Mapping[str, ndarray]) -> Int[ndarray, "batch 2"]:
        """Stage and executors for each episode."""
        before = np.append(0, np.cumsum(observation["schedulable"]))
        choices = np.diff(before[observation["stage_ptr"]])
        stage = self._rng.integers(choices)
        return np.stack([stage, 1 + self._rng.integers(observation["committable"])], axis=1)
