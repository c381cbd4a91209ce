"""What players expect of the link: moving averages of the throughput that they measured."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_baselines.abr._session_memory import Memory, Observation

HALF_LIVES_S = (3.0, 8.0)
"""Two moving averages of the throughput; the smaller counts."""


class MovingThroughput:
    """The smaller of two averages over download time, corrected for starting at zero.

    Args:
        rtt_s: Round trip in s, which carries no bytes and is taken out of every download.

    Source: Spiteri, Sitaraman, Sparacio, "From Theory to Practice", MMSys 2018, and the
    documentation of dash.js ("Throughput Calculation", mode EWMA): half-lives of 3 and 8 s.
    """

    def __init__(self, rtt_s: float) -> None:
        self._rtt_s = rtt_s
        self._memory = Memory(average_mbps=(2,), seen_s=())

    def clear(self) -> None:
        """Forget all sessions."""
        self._memory.clear()

    def __call__(self, observation: Observation) -> Float[ndarray, "batch"]:
        """Expected rate of each session's link in Mbit/s; to be called once per decision."""
        memory = self._memory
        memory.update(observation)
        delay_s = observation["delay_s"][:, -1]
        payload_s = np.maximum(delay_s - self._rtt_s, 0.1 * delay_s)
        sample = observation["throughput_mbps"][:, -1] * delay_s / payload_s
        half = np.array(HALF_LIVES_S)
        keep = 0.5 ** (delay_s[:, None] / half)
        memory["average_mbps"] = keep * memory["average_mbps"] + (1 - keep) * sample[:, None]
        memory["seen_s"] = memory["seen_s"] + delay_s
        seen = 1 - 0.5 ** (memory["seen_s"][:, None] / half)
        return (memory["average_mbps"] / seen).min(axis=1)
