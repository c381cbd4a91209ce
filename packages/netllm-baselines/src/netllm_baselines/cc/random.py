"""Choosing blindly."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from netllm_sims.cc import FACTORS
from numpy import ndarray

from netllm_baselines.cc._flows import Observation

if TYPE_CHECKING:
    from netllm_sims.cc import Setting


class Random:
    """A uniformly random factor, drawn afresh for every interval.

    Args:
        setting: Where it acts; it needs nothing of it.
    """

    def __init__(self, setting: "Setting") -> None:
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Restart the random stream from `seed`."""
        self._rng = np.random.default_rng(seed)

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """An index of `netllm_sims.cc.FACTORS` for each flow."""
        return self._rng.integers(len(FACTORS), size=len(observation["rate_mbps"]))
