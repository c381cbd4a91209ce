"""Online convex optimisation of the bitrate (L2A-LL)."""

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines.abr._session_memory import Memory, Observation

if TYPE_CHECKING:
    from netllm_sims.abr import Setting


class L2A:
    """Learn2Adapt-LowLatency: learns a distribution w over the levels, chunk by chunk.

    A chunk at level m would have taken `c_m = speed * rate_m / throughput` of its playback time,
    and moved the buffer by `1 - c_m` chunks. After each chunk it knows

    - the loss `f(w) = sum w_m |1 - c_m|`, the displacement of the buffer, up or down;
    - the constraint `g(w) = sum w_m c_m - 1 <= 0`, which holds in the mean over time: no more is
      played than arrives.

    It goes down their Lagrangian and projects onto the distributions, then moves the multiplier Q:

        w[t] = P(w[t-1] - (V grad f + Q grad g) / (2 A))
        Q    = max(0, Q + g(w[t]))

    with `V = sqrt(T)` and `A = T` for a horizon of T chunks. It plays the highest rate within the
    mean rate of w. Nothing is predicted: only the last throughput counts.

    Args:
        setting: Names the ladder.
        horizon: Chunks T over which regret and constraint are to be small; few make it quick.

    Raises:
        ValueError: The horizon is below 1.

    Source: Karagkioules et al., "Online Learning for Low-Latency Adaptive Streaming", MMSys 2020,
    as its abstract and its authors' page in the documentation of dash.js ("L2A") describe loss and
    constraint; updates and their constants: Liakopoulos et al., "Cautious Regret Minimization",
    ICML 2019 (COLD), and L2A, arXiv:1905.11705. The horizon was chosen on validation sessions of
    `live` (`benchmarks/abr_tuning.py`; dash.js has 4). Two differences: the mean rate is rounded
    down instead of to the nearest rate, which may be more than the link bears; and w starts at the
    level that was played, without a start-up phase.
    """

    def __init__(self, setting: "Setting", *, horizon: int = 1) -> None:
        if horizon < 1:
            raise ValueError(f"`horizon` must be at least 1 chunk, got {horizon}.")
        self.horizon = horizon
        self._rates_mbps = np.array(setting.video.rates_kbps) / 1000
        levels = len(self._rates_mbps)
        self._memory = Memory(weights=(levels,), multiplier=())

    def reset(self, seed: int) -> None:
        """Forget all sessions."""
        self._memory.clear()

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        memory = self._memory
        fresh = memory.update(observation)
        level = observation["level"]
        played = np.eye(len(self._rates_mbps))[level]
        weights = np.where(fresh[:, None], played, memory["weights"])
        speed = observation.get("speed", np.ones(len(level)))
        cost = speed[:, None] * self._rates_mbps / observation["throughput_mbps"][:, -1:]
        weights, multiplier = descend(weights, memory["multiplier"], cost, self.horizon)
        memory["weights"], memory["multiplier"] = weights, multiplier
        mean_mbps = weights @ self._rates_mbps
        fitting = np.searchsorted(self._rates_mbps, mean_mbps + 1e-9, side="right") - 1
        return np.maximum(fitting, 0)


def descend(
    weights: Float[ndarray, "batch level"],
    multiplier: Float[ndarray, "batch"],
    cost: Float[ndarray, "batch level"],
    horizon: int,
) -> tuple[Float[ndarray, "batch level"], Float[ndarray, "batch"]]:
    """Distribution and multiplier after one chunk, see `L2A`.

    Args:
        weights: Distribution before.
        multiplier: Multiplier before.
        cost: What a chunk at each level would have taken of its playback time.
        horizon: Chunks over which regret and constraint are to be small.
    """
    gradient = sqrt(horizon) * abs(1 - cost) + multiplier[:, None] * cost
    weights = onto_simplex(weights - gradient / (2 * horizon))
    return weights, np.maximum(multiplier + (weights * cost).sum(axis=1) - 1, 0)


def onto_simplex(points: Float[ndarray, "batch level"]) -> Float[ndarray, "batch level"]:
    """The nearest distribution to each point.

    Source: Duchi et al., "Efficient Projections onto the l1-Ball", ICML 2008, figure 1.
    """
    falling = -np.sort(-points, axis=1)
    over = (falling.cumsum(axis=1) - 1) / np.arange(1, points.shape[1] + 1)
    last = (falling > over).sum(axis=1, keepdims=True) - 1
    return np.maximum(points - np.take_along_axis(over, last, axis=1), 0)
