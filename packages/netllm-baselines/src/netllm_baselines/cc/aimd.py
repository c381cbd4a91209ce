"""A rule that may stand in for another policy at any single decision."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from netllm_sims.cc import FACTORS
from numpy import ndarray

from netllm_baselines.cc._flows import Observation

if TYPE_CHECKING:
    from netllm_sims.cc import Setting


class AIMD:
    """Lowers the rate where something is lost or much waits, and raises it gently otherwise.

    It remembers nothing, so it can answer in place of a policy that is late. Where the shortest
    round trip is exceeded by `most` it lowers the rate, by `least` it keeps it.

    Args:
        setting: Where it acts; the rule needs nothing of it.
        least: Inflation of the round trip up to which the rate may rise.
        most: Inflation from which it is lowered.

    Source: after Chiu and Jain, Computer Networks and ISDN Systems 1989, with the rise as a factor.
    """

    def __init__(self, setting: "Setting", *, least: float = 0.05, most: float = 0.2) -> None:
        if not 0 < least < most:
            raise ValueError(f"`least` must be > 0 and below `most`, got {least} and {most}.")
        self.least, self.most = least, most

    def reset(self, seed: int) -> None:
        """Do nothing: the observation says it all."""

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """An index of `netllm_sims.cc.FACTORS` for each flow."""
        waits, lost = observation["inflation"][:, -1], observation["loss"][:, -1] > 0
        wasted = lost & (waits > self.least)
        factors = np.select([wasted, waits > self.most, waits > self.least], [0.7, 0.85, 1.0], 1.05)
        return np.abs(factors[:, None] - np.array(FACTORS)).argmin(axis=1)
