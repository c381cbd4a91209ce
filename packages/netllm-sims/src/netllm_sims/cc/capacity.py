"""Seeded generators of a link's capacity."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.abr.traces import Trace
from netllm_sims.setting_values import unknown

_LEAST_SHARE = 0.02
_CELLULAR_BIN_S = 0.02

Points = tuple[Float[ndarray, "point"], Float[ndarray, "point"]]
"""Times in s from 0, and the capacity up to each of them."""


def generate(
    kind: str, rng: np.random.Generator, *, mean_mbps: float, duration_s: float, id: str
) -> Trace:
    """Trace of a generated capacity.

    Args:
        kind: One of `KINDS`.
        rng: Randomness; the same state gives the same trace.
        mean_mbps: Its mean, in Mbit/s.
        duration_s: Its length, in s.
        id: The trace's id.

    Raises:
        ValueError: There is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(unknown("kind of capacity", kind, list(KINDS)))
    time_s, level = KINDS[kind](rng, duration_s)
    mean = np.diff(time_s) @ level[1:] / time_s[-1]
    return Trace(id, time_s, level * (mean_mbps / mean))


def _steady(rng: np.random.Generator, duration_s: float) -> Points:
    """One capacity for ever."""
    return np.array([0.0, duration_s]), np.ones(2)


def _steps(rng: np.random.Generator, duration_s: float) -> Points:
    """A capacity that jumps, after 1 to 10 s, to between half and twice the usual one.

    Source: the changing networks of PCC (Dong et al., NSDI 2015, section 4.1.7), which draw
    bandwidth anew every 5 s.
    """
    ends_s = np.cumsum(rng.uniform(1.0, 10.0, int(duration_s) + 2))
    time_s = np.append(ends_s[ends_s < duration_s], duration_s)
    level = 2.0 ** rng.uniform(-1, 1, len(time_s))
    return np.append(0.0, time_s), np.append(level[0], level)


def _markov(rng: np.random.Generator, duration_s: float) -> Points:
    """Eight levels, of which every half second a neighbouring one may follow.

    Source: the generated traces of Pensieve (Mao et al., SIGCOMM 2017, section 5.1), with levels
    spaced geometrically.
    """
    points = max(2, round(duration_s / 0.5)) + 1
    levels = rng.uniform(1.2, 2.5) ** np.linspace(-1, 1, 8)
    state, stays = int(rng.integers(8)), rng.uniform(0.7, 0.95)
    states = []
    for move in np.where(rng.random(points) < stays, 0, rng.choice([-1, 1], points)):
        state = min(max(state + int(move), 0), 7)
        states.append(state)
    return np.linspace(0.0, duration_s, points), levels[states]


def _cellular(rng: np.random.Generator, duration_s: float) -> Points:
    """Packets that come at random, at a rate in Brownian motion which may stick at an outage.

    Source: the model that Sprout infers (Winstein et al., NSDI 2013, section 3.1), in bins of 20
    ms: rates up to 1,000 packets/s, 200 packets/s of motion per root of a second, outages of 1 s in
    the mean.
    """
    points = max(2, round(duration_s / _CELLULAR_BIN_S))
    moves = rng.normal(0.0, 200.0 * _CELLULAR_BIN_S**0.5, points)
    leaves = rng.random(points) < 1 - np.exp(-_CELLULAR_BIN_S)
    rate, rates = rng.uniform(100.0, 900.0), []
    for move, may_leave in zip(moves, leaves, strict=True):
        if rate > 0 or may_leave:
            rate = min(max(rate + (move if rate > 0 else abs(move)), 0.0), 1000.0)
        rates.append(rate)
    packets = rng.poisson(np.array(rates) * _CELLULAR_BIN_S).astype(float)
    packets[0] = max(packets[0], 1.0)
    return np.linspace(0.0, duration_s, points + 1), np.append(packets[0], packets)


def _satellite(rng: np.random.Generator, duration_s: float) -> Points:
    """A steady beam that fades slowly, by some decibels over half a minute.

    Source: ours, after the log-normal fades of satellite channels (Maseng and Bakken, IEEE
    Transactions on Communications 1981).
    """
    points = max(2, round(duration_s)) + 1
    keeps = np.exp(-1 / 30.0)
    noise = rng.normal(0.0, 0.15 * (1 - keeps**2) ** 0.5, points)
    level = np.zeros(points)
    level[0] = rng.normal(0.0, 0.15)
    for i in range(1, points):
        level[i] = keeps * level[i - 1] + noise[i]
    return np.linspace(0.0, duration_s, points), np.maximum(np.exp(level), _LEAST_SHARE)


KINDS: dict[str, Callable[[np.random.Generator, float], Points]] = {
    "steady": _steady,
    "steps": _steps,
    "markov": _markov,
    "cellular": _cellular,
    "satellite": _satellite,
}
"""The generators by name."""
