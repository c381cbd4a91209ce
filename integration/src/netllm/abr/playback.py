"""What a player tells chunk by chunk, made into observations as the simulator shows them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netllm.abr.observation_fields import HISTORY

if TYPE_CHECKING:
    from netllm_sims.abr import Setting

SHORTEST_S = 1e-6
"""A download that is said to take less was not measured."""


class Playback:
    """One player's video: its last downloads, and the level of its last chunk.

    Args:
        setting: says ladder and QoE.
    """

    def __init__(self, setting: Setting) -> None:
        self._rates_kbps, self._qoe = setting.video.rates_kbps, setting.qoe
        self._quality = setting.chunk_quality[: setting.chunks]
        self._throughput_mbps = deque([0.0] * HISTORY, HISTORY)
        self._delay_s = deque([0.0] * HISTORY, HISTORY)
        self._level = self._before = 0

    @property
    def measured(self) -> bool:
        """Whether the time of any download is known."""
        return self._delay_s[-1] > 0

    def played(self, level: int) -> None:
        """The level of the last chunk."""
        self._before, self._level = self._level, level

    def downloaded(self, size_mb: float, delay_s: float) -> None:
        """Its size in 1e6 bytes and its download time; one that was not measured is left out."""
        if delay_s >= SHORTEST_S:
            self._throughput_mbps.append(size_mb * 8 / delay_s)
            self._delay_s.append(delay_s)

    def observation(
        self,
        *,
        buffer_s: float,
        stall_s: float,
        chunks_left: int,
        sizes_mb: Sequence[Sequence[float]],
    ) -> dict[str, Any]:
        """What `netllm_sims.abr.Simulator` would show, as requests to the server spell it.

        Args:
            buffer_s: playback time in the buffer.
            stall_s: time without playback that the last chunk caused.
            chunks_left: chunks still to be decided.
            sizes_mb: sizes of the next chunks by level; those that are missing are shown as 0.
        """
        last = min(max(len(self._quality) - 1 - chunks_left, 0), len(self._quality) - 1)
        worth = float(self._quality[last, self._level])
        before = float(self._quality[max(last - 1, 0), self._before])
        none = [0.0] * len(self._rates_kbps)
        coming = [[*sizes] for sizes in sizes_mb[:HISTORY]]
        reward = worth - self._qoe.rebuffering * stall_s
        return {
            "throughput_mbps": [*self._throughput_mbps],
            "delay_s": [*self._delay_s],
            "sizes_mb": coming + [none] * (HISTORY - len(coming)),
            "rate_kbps": self._rates_kbps[self._level],
            "level": self._level,
            "buffer_s": buffer_s,
            "stall_s": stall_s,
            "chunks_left": chunks_left,
            "reward": reward - self._qoe.smoothness * abs(worth - before),
        }
