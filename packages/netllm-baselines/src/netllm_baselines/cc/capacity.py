"""A bound: a sender that knows the link."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from netllm_sims.cc import UNLIMITED
from numpy import ndarray

from netllm_baselines.cc._flows import Observation

if TYPE_CHECKING:
    from netllm_sims.cc import Setting, Simulator

_LEAST_MBPS = 0.01


class Capacity:
    """Sends in every interval what the link will carry in it, less what waits already.

    With competitors it sends its fair share of the capacity. Alone it is an upper bound but for
    losses by chance, which nobody can avoid: the link is full and the queue empty.

    Args:
        setting: Says how many competitors there are.
    """

    knows = "the capacity to come"

    def __init__(self, setting: "Setting") -> None:
        self._flows = 1 + setting.competitors
        self._simulator: Simulator | None = None

    def reset(self, seed: int) -> None:
        """Forget the links."""
        self._simulator = None

    def begin(self, simulator: "Simulator") -> None:
        """Know the links of the simulator."""
        self._simulator = simulator

    def act(self, observation: Observation) -> Float[ndarray, "batch 2"]:
        """Pacing rate in Mbit/s and window of each flow.

        Raises:
            RuntimeError: `begin` was not called with the simulator, so that nothing is known.
        """
        if self._simulator is None:
            raise RuntimeError(
                "`capacity` must know the links before it acts. Call `begin(simulator)`, or use "
                "`rollout`."
            )
        rate = self._simulator.coming_mbps / self._flows
        if self._flows == 1:
            rate -= self._simulator.queue_packets * 12 / observation["interval_ms"]
        rate = np.maximum(rate, _LEAST_MBPS)
        return np.stack([rate, np.full(len(rate), UNLIMITED)], axis=1)
