"""Probe and adapt (PANDA)."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines.abr._session_memory import Memory, Observation

if TYPE_CHECKING:
    from netllm_sims.abr import Setting


class Panda:
    """Probes for bandwidth step by step and quantises the smoothed estimate with a dead zone.

    With the measured throughput x~ and the time T since the last request:

    - probe: `x[n] = x[n-1] + T k (w - max(0, x[n-1] - x~ + w))`: up by `k w T`, down in proportion
      to the excess;
    - smooth: `y[n] = y[n-1] - T a (y[n-1] - x[n])`;
    - quantise: move up only to rates `<= y (1 - e)`, down only when the rate exceeds `y`, else
      stay.

    Args:
        setting: Names the ladder and the length of a chunk.
        probing: Convergence rate k in 1/s.
        increment_mbps: Additive increase w in Mbit/s.
        smoothing: Smoothing rate a in 1/s.
        margin: Dead zone e as a share of the estimate.

    Source: Li et al., IEEE JSAC 32(4), 2014, section V and its parameters. Two differences. Its
    fourth step spaces the requests to hold a target buffer; here requests leave at once, as for
    every policy. It is meant for T near the length of a chunk; after a long download `T k` and `T
    a` are held at 1, where the steps would overshoot.
    """

    def __init__(
        self,
        setting: "Setting",
        *,
        probing: float = 0.14,
        increment_mbps: float = 0.3,
        smoothing: float = 0.2,
        margin: float = 0.15,
    ) -> None:
        self.probing = probing
        self.increment_mbps = increment_mbps
        self.smoothing = smoothing
        self.margin = margin
        self._chunk_s = setting.video.chunk_s
        self._rates_mbps = np.array(setting.video.rates_kbps) / 1000
        self._memory = Memory(share_mbps=(), smooth_mbps=(), buffer_s=())

    def reset(self, seed: int) -> None:
        """Forget all sessions."""
        self._memory.clear()

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        memory = self._memory
        fresh = memory.update(observation)
        measured = observation["throughput_mbps"][:, -1]
        # Playback time is conserved, so the buffers tell the time between the requests, idle time
        # included.
        since_s = (
            memory["buffer_s"] + self._chunk_s + observation["stall_s"] - observation["buffer_s"]
        )
        memory["buffer_s"] = observation["buffer_s"]
        excess = np.maximum(0, memory["share_mbps"] - measured + self.increment_mbps)
        step = np.minimum(since_s * self.probing, 1) * (self.increment_mbps - excess)
        share = np.where(fresh, measured, np.maximum(memory["share_mbps"] + step, 0))
        step = np.minimum(since_s * self.smoothing, 1) * (share - memory["smooth_mbps"])
        smooth = np.where(fresh, measured, memory["smooth_mbps"] + step)
        memory["share_mbps"], memory["smooth_mbps"] = share, smooth
        return self._quantise(smooth, observation["level"])

    def _quantise(
        self, estimate_mbps: Float[ndarray, "batch"], level: Int[ndarray, "batch"]
    ) -> Int[ndarray, "batch"]:
        up = self._highest(estimate_mbps * (1 - self.margin))
        down = self._highest(estimate_mbps)
        return np.where(level < up, up, np.minimum(level, down))

    def _highest(self, limit_mbps: Float[ndarray, "batch"]) -> Int[ndarray, "batch"]:
        fitting = np.searchsorted(self._rates_mbps, limit_mbps, side="right") - 1
        return np.maximum(fitting, 0)
