"""Model-predictive control (RobustMPC)."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines.abr._chunk_quality import ChunkQuality
from netllm_baselines.abr._session_memory import Memory, Observation

if TYPE_CHECKING:
    from netllm_sims.abr import Setting

PAST = 5
"""Chunks that the prediction and its error look back on."""


class MPC:
    """First level of the sequence that earns most, were the bandwidth as bad as lately predicted.

    The link's rate is predicted by the harmonic mean of the last five chunks, divided by one plus
    the largest of the last five relative errors of that prediction. All sequences of levels over
    the horizon count; the best one is found exactly (depth first, cutting what cannot win any
    more). Of equally good sequences the one that starts lower wins.

    Args:
        setting: Gives QoE, length of a chunk, round trip, latency and buffer.
        horizon: Chunks planned ahead, at most the 6 that an observation shows.

    Raises:
        ValueError: The horizon lies outside 1 to 6.

    Source: Yin et al., SIGCOMM 2015 (RobustMPC). Unlike the public implementations, the round trip
    is taken out of the measured throughput before predicting and added to every planned download,
    the planned buffer respects its cap, sizes are those of the very chunks planned, and errors are
    forgotten between sessions.
    """

    def __init__(self, setting: "Setting", *, horizon: int = 5) -> None:
        if not 1 <= horizon <= 6:
            raise ValueError(f"`horizon` must lie between 1 and 6 chunks, got {horizon}.")
        self.horizon = horizon
        self._quality = ChunkQuality(setting, horizon)
        self._rtt_s = setting.rtt_s
        self._terms = np.array(
            [
                setting.rtt_s + setting.latency_s,
                setting.video.chunk_s,
                setting.buffer_cap_s,
                setting.rebuffering,
                setting.smoothness,
            ]
        )
        self._memory = Memory(errors=(PAST,), predicted_mbps=())

    def reset(self, seed: int) -> None:
        """Forget all sessions."""
        self._memory.clear()

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        from netllm_baselines.abr._level_search import plan

        fresh = self._memory.update(observation)
        rate_mbps = self._link_mbps(observation)
        last, predicted = rate_mbps[:, -1], self._memory["predicted_mbps"]
        error = np.where(fresh, 0, np.abs(predicted - last) / last)
        errors = np.column_stack([self._memory["errors"][:, 1:], error])
        seen = rate_mbps[:, -PAST:]
        inverse = np.divide(1, seen, out=np.zeros_like(seen), where=seen > 0)
        predicted = (seen > 0).sum(axis=1) / inverse.sum(axis=1)
        self._memory["errors"], self._memory["predicted_mbps"] = errors, predicted
        return plan(
            (predicted / (1 + errors.max(axis=1))).astype(np.float64),
            observation["sizes_mb"].astype(np.float64),
            observation["buffer_s"].astype(np.float64),
            observation["level"].astype(np.int64),
            np.minimum(observation["chunks_left"], self.horizon).astype(np.int64),
            self._quality(observation),
            self._terms,
        )

    def _link_mbps(self, observation: Observation) -> Float[ndarray, "batch 6"]:
        """Rate of the link itself during the last chunks: the round trip carries no bytes."""
        delay_s = observation["delay_s"]
        # Noise on the delay may make it shorter than the round trip; then a tenth is taken for
        # transfer.
        transfer_s = np.maximum(delay_s - self._rtt_s, 0.1 * delay_s)
        share = np.divide(delay_s, transfer_s, out=np.ones_like(delay_s), where=delay_s > 0)
        return observation["throughput_mbps"] * share
