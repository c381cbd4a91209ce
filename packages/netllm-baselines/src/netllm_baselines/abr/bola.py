"""Lyapunov control of the buffer (BOLA)."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from netllm_baselines.abr._moving_throughput import MovingThroughput
from netllm_baselines.abr._session_memory import Memory, Observation

if TYPE_CHECKING:
    from netllm_sims.abr import Setting


class Bola:
    """BOLA-E: maximises `(V (v_m + g) - Q) / S_m` over the levels m.

    v_m = 1 + ln(rate_m / rate_0) is the utility of a level, S_m its nominal rate and Q the buffer
    in s. V and g follow from the ladder and the buffer's capacity: the lowest level wins below
    `minimum_buffer_s`, the highest near the capacity (but at least `minimum_buffer_s` + 2 s per
    level). Three additions make BOLA practical: a placeholder buffer, which lets the session start
    at the level that the throughput allows; switches up no further than one level beyond the
    throughput; and the insufficient-buffer rule, which takes only what half the throughput brings
    before the buffer runs dry.

    Args:
        setting: Gives ladder, length of a chunk, capacity of the buffer and round trip.
        minimum_buffer_s: Buffer in s to be held even at the lowest level.

    Source: Spiteri, Sitaraman, Sparacio, "From Theory to Practice", MMSys 2018, section 4, and the
    authors' simulator Sabre (class `BolaEnh`, its defaults); BOLA itself: Spiteri, Urgaonkar,
    Sitaraman, INFOCOM 2016. Two differences: no download is abandoned, and where BOLA would pause
    before a request it sends it at once, since no policy here can wait.
    """

    def __init__(self, setting: "Setting", *, minimum_buffer_s: float = 10.0) -> None:
        video = setting.video
        self._rates_mbps = np.array(video.rates_kbps) / 1000
        self._chunk_s = video.chunk_s
        self._throughput_mbps = MovingThroughput(setting.rtt_s)
        self._overhead_s = setting.rtt_s + setting.latency_s
        self._utility = 1 + np.log(self._rates_mbps / self._rates_mbps[0])
        capacity_s = max(minimum_buffer_s + 2.0 * video.levels, setting.buffer_cap_s)
        self.g = (self._utility[-1] - 1) / (capacity_s / minimum_buffer_s - 1)
        self.v_s = minimum_buffer_s / self.g
        self._most_s = self.v_s * (self._utility + self.g)
        self._least_s = self._crossings_s()
        self._memory = Memory(placeholder_s=(), safety=(), buffer_s=())

    def _crossings_s(self) -> Float[ndarray, "level"]:
        """Buffer from which on each level beats all lower ones."""
        rates, utility = self._rates_mbps, self._utility
        least_s = np.zeros(len(rates))
        for m in range(1, len(rates)):
            crossing = (rates[m] * utility[:m] - rates[:m] * utility[m]) / (rates[m] - rates[:m])
            least_s[m] = max(0.0, self.v_s * (self.g + crossing.max()))
        return least_s

    def reset(self, seed: int) -> None:
        """Forget all sessions."""
        self._throughput_mbps.clear()
        self._memory.clear()

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        memory = self._memory
        fresh = memory.update(observation)
        throughput_mbps = self._throughput_mbps(observation)
        affordable = self._highest((self._chunk_s - self._overhead_s) * throughput_mbps)
        buffer_s = observation["buffer_s"]
        self._settle_placeholder(observation)
        placeholder_s = memory["placeholder_s"]

        level = self._by_buffer(buffer_s + placeholder_s)
        last = observation["level"]
        rash = (level > last) & (level > affordable)
        level = np.where(rash, np.maximum(last, affordable) + 1, level)
        level = np.where(fresh, affordable, level)
        spare_s = np.maximum(buffer_s + placeholder_s - self._most_s[level], 0)
        started_s = np.maximum(self._least_s[level] - buffer_s, 0)
        memory["placeholder_s"] = np.where(fresh, started_s, np.maximum(placeholder_s - spare_s, 0))
        level = self._insufficient(level, buffer_s, throughput_mbps, fresh)
        memory["buffer_s"] = buffer_s
        return level

    def _by_buffer(self, effective_s: Float[ndarray, "batch"]) -> Int[ndarray, "batch"]:
        score = (self._most_s - effective_s[:, None]) / self._rates_mbps
        return score.argmax(axis=1)

    def _highest(self, limit_mb: Float[ndarray, "batch"]) -> Int[ndarray, "batch"]:
        """Highest level whose nominal chunk stays within a limit in Mbit."""
        fitting = np.searchsorted(self._rates_mbps * self._chunk_s, limit_mb, side="right") - 1
        return np.maximum(fitting, 0)

    def _settle_placeholder(self, observation: Observation) -> None:
        """Keep the placeholder within what the last level justifies; add time at a full buffer."""
        memory, last = self._memory, observation["level"]
        stall_s, delay_s = observation["stall_s"], observation["delay_s"][:, -1]
        since_s = memory["buffer_s"] + self._chunk_s + stall_s - observation["buffer_s"]
        idle_s = np.maximum(since_s - delay_s, 0)
        before_s = observation["buffer_s"] + idle_s + delay_s
        most_s = np.maximum(self._most_s[last] - before_s, 0)
        placeholder_s = np.minimum(memory["placeholder_s"], most_s)
        memory["placeholder_s"] = np.maximum(placeholder_s, self._least_s[last] - before_s) + idle_s

    def _insufficient(
        self,
        level: Int[ndarray, "batch"],
        buffer_s: Float[ndarray, "batch"],
        throughput_mbps: Float[ndarray, "batch"],
        fresh: Bool[ndarray, "batch"],
    ) -> Int[ndarray, "batch"]:
        """Cap the level by what arrives before the buffer runs dry, at a trust falling to half."""
        memory = self._memory
        trust = memory["safety"]
        safe_mb = trust * (buffer_s - self._overhead_s) * throughput_mbps
        safe = np.where(fresh, level, np.minimum(level, self._highest(safe_mb)))
        shortened_s = np.minimum(
            memory["placeholder_s"], np.maximum(self._least_s[safe] - buffer_s, 0)
        )
        memory["placeholder_s"] = np.where(safe < level, shortened_s, memory["placeholder_s"])
        memory["safety"] = np.where(fresh, 0.9, np.maximum(trust * 0.9, 0.5))
        return safe
