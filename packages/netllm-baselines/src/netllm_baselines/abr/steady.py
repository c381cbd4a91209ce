"""A rule that may stand in for another policy at any single decision."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from netllm_baselines.abr._session_memory import Observation

if TYPE_CHECKING:
    from netllm_sims.abr import Setting


class Steady:
    """Keeps the level, one up where the link bears it, and down to what arrives in time.

    The link is expected to give the harmonic mean of the measured throughputs:

    - up by one if that is at least `bears` times the next rate, with `full_s` in the buffer;
    - down, as far as it takes, where the next chunk would not arrive within `share` of the buffer.

    It goes by what was really played, whoever decided it. So it costs little where it decides
    seldom, in place of one that is late; a rule by the buffer alone would then jump by levels.

    Args:
        setting: Names the ladder.
        bears: Share of the next rate that the link must bear.
        full_s: Buffer in s from which it may go up.
        share: Share of the buffer that the next chunk may take.

    Source: ours; its numbers were chosen on validation sessions of `default`, see
    `benchmarks/abr_fallbacks.py`.
    """

    def __init__(
        self, setting: "Setting", *, bears: float = 0.9, full_s: float = 12.0, share: float = 0.6
    ) -> None:
        if bears <= 0 or full_s < 0 or not 0 < share <= 1:
            raise ValueError(
                "`bears` must be > 0, `full_s` >= 0 and `share` in (0, 1], "
                f"got {bears}, {full_s} and {share}."
            )
        self.bears, self.full_s, self.share = bears, full_s, share
        self._rates_mbps = np.array(setting.video.rates_kbps) / 1000

    def reset(self, seed: int) -> None:
        """Do nothing: the observation says it all."""

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        level = observation["level"].astype(np.int64)
        throughput, buffer_s = observation["throughput_mbps"], observation["buffer_s"]
        known = throughput > 0
        slowness = np.where(known, 1 / np.where(known, throughput, 1), 0).sum(1)
        measured = known.any(1)
        mean_mbps = known.sum(1) / np.where(measured, slowness, 1)
        above = np.minimum(level + 1, len(self._rates_mbps) - 1)
        up = (mean_mbps >= self.bears * self._rates_mbps[above]) & (buffer_s >= self.full_s)
        bits = 8 * observation["sizes_mb"][:, 0]
        in_time = bits <= self.share * (buffer_s * mean_mbps)[:, None]
        highest = np.where(in_time, np.arange(bits.shape[1]), 0).max(1)
        return np.where(measured, np.minimum(np.where(up, above, level), highest), level)
