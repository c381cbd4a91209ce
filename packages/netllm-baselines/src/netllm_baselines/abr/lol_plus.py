"""A self-organising map over what bitrates brought, near the live edge (LoL+)."""

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines.abr._session_memory import Memory, Observation

if TYPE_CHECKING:
    from netllm_sims.abr import Setting

WEIGHTS = np.array([*product((0.2, 0.4, 0.6, 0.8, 1.0), repeat=4)])
"""Weights of throughput, latency, stall and switch that are tried before every chunk."""


class LoLPlus:
    """The level whose neuron is nearest to what is wanted, by the weights that promise most QoE.

    A map has one neuron per level. It stands for four features: the rate, the latency over its
    target and the stall in s that the level brought, and the change from the level that is played;
    rates over the length of the vector of all. Wanted are the throughput of the last chunk, the
    target's latency, no stall and no change. Before every chunk

    1. the neuron of the last level, and its neighbours less, learn what that chunk brought;
    2. for each of 625 vectors of weights the neuron with the least weighted distance to what is
       wanted is found, among those whose rate the link bears;
    3. of these the one is chosen that promises the best QoE if the throughput stays; changes count
       in the map only;
    4. the chosen neuron, and its neighbours less, move towards what is wanted.

    Args:
        setting: A live one; gives ladder, QoE and target.
        rate: Learning rate.
        width: Distance of rates over which neighbours learn too (sigma of a bell).

    Raises:
        ValueError: The setting is not live, or a number is not > 0.

    Source: Bentaleb et al., "Catching the Moment with LoL+ in Twitch-Like Low-Latency Live
    Streaming Platforms", IEEE Trans. Multimedia 2022, as its authors describe its modules in the
    documentation of dash.js ("LoL+") and in the README of LLHLS-ABRs. Playback control, QoE and
    throughputs measured without idle times are the simulator's, for every policy. Three things are
    ours: weights are judged by the QoE of the neuron that wins with them; a link bears no rate
    above its throughput; and the rates of the map stay, since a neuron that also learns throughput
    drifts to the link's, and is never left.
    """

    def __init__(self, setting: "Setting", *, rate: float = 0.01, width: float = 0.1) -> None:
        if not setting.live:
            raise ValueError(
                f"LoL+ needs a live setting, but {setting.name!r} is video on demand. Choose the "
                "setting `live`, or set `live_target_s`."
            )
        if rate <= 0 or width <= 0:
            raise ValueError(f"`rate` and `width` must be > 0, got {rate} and {width}.")
        self.rate, self.width = rate, width
        self._qoe, self._target_s = setting.qoe, setting.live_target_s
        self._chunk_s, self._latency_s = setting.chunk_s, setting.latency_s
        self._rates_mbps = np.array(setting.video.rates_kbps) / 1000
        self._length = float(np.linalg.norm(self._rates_mbps))
        self._memory = Memory(brought=(len(self._rates_mbps), 2))

    def reset(self, seed: int) -> None:
        """Forget all sessions."""
        self._memory.clear()

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        from netllm_baselines.abr._nearest_neurons import nearest_by_any

        fresh = self._memory.update(observation)[:, None, None]
        last, throughput = observation["level"], observation["throughput_mbps"][:, -1:]
        latency, stall_s = observation["live_latency_s"] / self._target_s, observation["stall_s"]
        wanted, found = np.array([1.0, 0.0]), np.column_stack([latency, stall_s])[:, None]
        brought = np.where(fresh, wanted, self._memory["brought"])
        brought = brought + ~fresh * self._step(last) * (found - brought)
        rates = self._rates_mbps
        off = (rates - throughput) / self._length
        change = (rates - rates[last][:, None]) / self._length
        squares = np.dstack([off, brought - wanted, change]) ** 2
        bears = (rates <= throughput) | (np.arange(len(rates)) == 0)
        winners = nearest_by_any(squares.astype(np.float64), bears, WEIGHTS)
        level = np.where(winners, self._promised(observation), -np.inf).argmax(axis=1)
        self._memory["brought"] = brought + self._step(level) * (wanted - brought)
        return level

    def _step(self, level: Int[ndarray, "batch"]) -> Float[ndarray, "batch level 1"]:
        """How far each neuron moves: that of a level by the learning rate, others less."""
        apart = (self._rates_mbps - self._rates_mbps[level][:, None]) / self._length
        return self.rate * np.exp(-((apart / self.width) ** 2) / 2)[:, :, None]

    def _promised(self, observation: Observation) -> Float[ndarray, "batch level"]:
        """QoE of the next chunk at each level if the throughput stays, without its change."""
        buffer_s, latency_s, speed = (
            observation[name][:, None] for name in ("buffer_s", "live_latency_s", "speed")
        )
        wait_s = np.maximum(self._chunk_s + buffer_s - latency_s, self._latency_s)
        away_s = wait_s + 8 * observation["sizes_mb"][:, 0] / observation["throughput_mbps"][:, -1:]
        stall_s = np.maximum(away_s - buffer_s / speed, 0)
        latency_s = latency_s + stall_s + (1 - speed) * (away_s - stall_s)
        return self._qoe(*np.broadcast_arrays(self._rates_mbps, stall_s, 0.0, latency_s, speed))
