"""Choosing blindly."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from netllm_baselines.abr._session_memory import Observation

if TYPE_CHECKING:
    from netllm_sims.abr import Setting


class Random:
    """A uniformly random level, drawn afresh for every chunk.

    Args:
        setting: Names the ladder.
    """

    def __init__(self, setting: "Setting") -> None:
        self._levels = setting.video.levels
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Restart the random stream from `seed`."""
        self._rng = np.random.default_rng(seed)

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        return self._rng.integers(self._levels, size=len(observation["level"]))
