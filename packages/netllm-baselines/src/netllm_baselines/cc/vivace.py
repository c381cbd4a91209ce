"""PCC Vivace."""

import numpy as np
from jaxtyping import Float
from netllm_sims.cc import UNLIMITED
from numpy import ndarray

from netllm_baselines.cc._flows import Flows, Interval, Observation, Rows

EXPONENT, DELAY_WEIGHT, LOSS_WEIGHT = 0.9, 900.0, 11.35
"""Numbers of the utility."""
EPSILON = 0.05
"""Share by which the two tried rates differ from the rate."""
THETA, OMEGA, OMEGA_STEP = 1.0, 0.05, 0.1
"""Step in (Mbit/s)² per unit of utility; first bound of a change, as a share; its growth."""
_FLAT = 0.01
_TRIED = 4
_MOST_LAG = 6
_LEAST_MBPS = 0.05


class Vivace(Flows):
    """A rate that climbs the gradient of its utility, tried a little above and a little below.

    Utility of x Mbit/s: x^0.9 - 900 x · (change of the round trip per second) - 11.35 x · loss.
    Each rate is tried for two monitoring intervals, one round trip; then it waits for what they
    brought, one more round trip, and steps.

    Source: Dong et al., NSDI 2018, sections 3 and 4, with its numbers. Differences: the order of
    the two rates alternates, and is not random; changes of the round trip below 1 % are taken for
    none; it goes on at the old rate while it waits.
    """

    def fresh(self, count: int) -> Rows:
        """A flow that doubles its rate."""
        zeros = ("rate", "rate_before", "best", "best_rate", "sign", "streak", "bound")
        return {
            **{name: np.zeros(count) for name in zeros},
            "starts": np.ones(count, bool),
            "step": np.zeros(count, np.int64),
            "first": np.ones(count),
        }

    def decide(
        self, rows: Rows, seen: Interval, observation: Observation
    ) -> Float[ndarray, "batch 2"]:
        """The rate of the next interval."""
        fresh = rows["rate"] == 0
        rows["rate"][fresh] = observation["rate_mbps"][fresh]
        lag = np.clip(np.ceil(seen.rtt_s / seen.length_s - 0.25), 1, _MOST_LAG).astype(np.int64)
        self._start(rows, observation, lag)
        done = ~rows["starts"] & (rows["step"] >= _TRIED + lag)
        self._climb(rows, observation, seen, done)
        rows["step"][done] = 0
        sign = np.where(rows["step"] < 2, rows["first"], -rows["first"])
        tries = ~rows["starts"] & (rows["step"] < _TRIED)
        rate = rows["rate"] * np.where(tries, 1 + EPSILON * sign, 1.0)
        rows["step"] += 1
        return np.stack([rate, np.full(len(rate), UNLIMITED)], axis=1)

    def _start(self, rows: Rows, observation: Observation, lag: ndarray) -> None:
        """Double the rate every second interval until the utility falls; then take the best."""
        starts = rows["starts"]
        links = np.arange(len(lag))
        rate = observation["sent_mbps"][links, -1 - lag].astype(float)
        slope = _slope(observation, -1, -2)
        worth = utility(rate, slope, observation["loss"][:, -1])
        falls = starts & (rows["step"] > lag + 1) & (worth < rows["best"])
        rows["rate"][falls] = np.maximum(rows["best_rate"][falls], _LEAST_MBPS)
        rows["step"][falls] = 0
        better = starts & ~falls & (worth > rows["best"])
        rows["best"][better], rows["best_rate"][better] = worth[better], rate[better]
        starts &= ~falls
        rows["rate"][starts & (rows["step"] % 2 == 1)] *= 2

    def _climb(self, rows: Rows, observation: Observation, seen: Interval, done: ndarray) -> None:
        """Step along the gradient that the two tried rates show."""
        rate, loss = rows["rate"], observation["loss"]
        sides = rows["first"][:, None] * (EPSILON, -EPSILON)
        worth = [
            utility(rate * (1 + sides[:, k]), _slope(observation, at, at - 2), loss[:, a:b].mean(1))
            for k, (at, a, b) in enumerate(((-3, -4, -2), (-1, -2, None)))
        ]
        gradient = (worth[0] - worth[1]) / ((sides[:, 0] - sides[:, 1]) * rate)
        sign = np.sign(gradient)
        same = sign == rows["sign"]
        streak = np.where(same, rows["streak"] + 1, 1.0)
        sure = np.where(streak <= 3, streak, 2 * streak - 3)
        change = sure * THETA * gradient / rate
        bound = np.where(same, rows["bound"], 0.0)
        most = OMEGA + OMEGA_STEP * bound
        bound = np.where(np.abs(change) > most, bound + 1, 0.0)
        rows["rate"][done] *= 1 + np.clip(change, -most, most)[done]
        np.maximum(rows["rate"], _LEAST_MBPS, out=rows["rate"])
        for name, values in {"sign": sign, "streak": streak, "bound": bound}.items():
            rows[name][done] = values[done]
        rows["first"][done] *= -1


def utility(
    rate_mbps: Float[ndarray, "batch"],
    slope: Float[ndarray, "batch"],
    loss: Float[ndarray, "batch"],
) -> Float[ndarray, "batch"]:
    """Vivace's utility of a rate, with the change of the round trip in s/s and the share lost."""
    paid = DELAY_WEIGHT * slope + LOSS_WEIGHT * loss
    return rate_mbps**EXPONENT - rate_mbps * paid


def _slope(observation: Observation, end: int, begin: int) -> Float[ndarray, "batch"]:
    """Change of the round trip per time between two intervals; 0 where it is small or unknown."""
    rtt_ms = observation["rtt_ms"].astype(float)
    change = (rtt_ms[:, end] - rtt_ms[:, begin]) / ((end - begin) * observation["interval_ms"])
    return np.where((np.abs(change) < _FLAT) | (rtt_ms[:, begin] == 0), 0.0, change)
