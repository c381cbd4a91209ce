"""The two rules that dash.js decides by: throughput, and throughput or BOLA by the buffer."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from netllm_baselines.abr._moving_throughput import MovingThroughput
from netllm_baselines.abr._session_memory import Memory, Observation
from netllm_baselines.abr.bola import Bola

if TYPE_CHECKING:
    from netllm_sims.abr import Setting


class Throughput:
    """The highest rate within a share of the expected throughput.

    Args:
        setting: Names the ladder and the round trip.
        share: Share of the throughput that is counted on.

    Raises:
        ValueError: The share is not > 0.

    Source: Spiteri, Sitaraman, Sparacio, "From Theory to Practice", MMSys 2018, section 3, and the
    documentation of dash.js 5 ("ThroughputRule"; safety factor 0.9, EWMA).
    """

    def __init__(self, setting: "Setting", *, share: float = 0.9) -> None:
        if share <= 0:
            raise ValueError(f"`share` must be > 0, got {share}.")
        self.share = share
        self._rates_mbps = np.array(setting.video.rates_kbps) / 1000
        self._expected_mbps = MovingThroughput(setting.rtt_s)

    def reset(self, seed: int) -> None:
        """Forget all sessions."""
        self._expected_mbps.clear()

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        limit_mbps = self.share * self._expected_mbps(observation)
        return np.maximum(np.searchsorted(self._rates_mbps, limit_mbps, side="right") - 1, 0)


class Dynamic:
    """`Throughput` while the buffer is short, `Bola` once it is long.

    It goes over to BOLA when the buffer reaches `long_s`, and back when it falls below `short_s`.
    Both rules see every chunk, whoever decides.

    Args:
        setting: Gives ladder, length of a chunk, capacity of the buffer and round trip.
        long_s: Buffer in s from which BOLA decides.
        short_s: Buffer in s below which it no longer does.

    Raises:
        ValueError: `short_s` is negative or above `long_s`.

    Source: the documentation of dash.js 5 ("ABR Settings") and its defaults: `bufferTimeDefault` of
    18 s, and half of that. In the paper of MMSys 2018 both are 10 s, and the two rules' levels are
    compared too. BOLA brings its insufficient-buffer rule; below it the throughput rule has none.
    """

    def __init__(self, setting: "Setting", *, long_s: float = 18.0, short_s: float = 9.0) -> None:
        if not 0 <= short_s <= long_s:
            raise ValueError(
                f"`short_s` must be >= 0 and at most `long_s`, got {short_s} and {long_s}."
            )
        self.long_s, self.short_s = long_s, short_s
        self._throughput, self._bola = Throughput(setting), Bola(setting)
        self._memory = Memory(by_buffer=())

    def reset(self, seed: int) -> None:
        """Forget all sessions."""
        self._throughput.reset(seed)
        self._bola.reset(seed)
        self._memory.clear()

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        self._memory.update(observation)
        before = self._memory["by_buffer"] > 0
        by_buffer = observation["buffer_s"] >= np.where(before, self.short_s, self.long_s)
        self._memory["by_buffer"] = by_buffer
        levels = self._bola.act(observation), self._throughput.act(observation)
        return np.where(by_buffer, *levels)
