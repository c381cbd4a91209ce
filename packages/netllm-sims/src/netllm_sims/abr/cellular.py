"""Seeded links like those of published sets of 3G, 4G and 5G traces."""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from netllm_sims.abr.trace_statistics import TraceStatistics
from netllm_sims.abr.traces import Trace

CELLULAR = {
    "norway-3g": TraceStatistics(
        mean_mbps=1.004,
        deviation_mbps=0.984,
        between=0.520,
        outages=0.203,
        outage_s=11.56,
        after_1_s=0.908,
        after_5_s=0.741,
    ),
    "ghent-4g": TraceStatistics(
        mean_mbps=30.21,
        deviation_mbps=16.12,
        between=0.278,
        outages=0.007,
        outage_s=2.58,
        after_1_s=0.753,
        after_5_s=0.616,
    ),
    "minneapolis-4g": TraceStatistics(
        mean_mbps=40.37,
        deviation_mbps=36.60,
        between=0.512,
        outages=0.010,
        outage_s=2.66,
        after_1_s=0.886,
        after_5_s=0.679,
    ),
    "minneapolis-5g": TraceStatistics(
        mean_mbps=522.9,
        deviation_mbps=462.9,
        between=0.324,
        outages=0.025,
        outage_s=2.17,
        after_1_s=0.900,
        after_5_s=0.611,
    ),
    "cork-5g": TraceStatistics(
        mean_mbps=44.27,
        deviation_mbps=68.21,
        between=0.863,
        outages=0.080,
        outage_s=1.85,
        after_1_s=0.840,
        after_5_s=0.401,
    ),
}
"""Statistics of published sets, as `trace_statistics` finds them in the sets' own files.

- `norway-3g`: HSDPA on public transport and in cars around Oslo, 86 traces, 31.2 h (Riiser et al.,
  MMSys 2013).
- `ghent-4g`: 4G on foot and in vehicles in Ghent, 40 traces, 5.0 h (van der Hooft et al., IEEE
  Communications Letters 2016).
- `minneapolis-4g`, `minneapolis-5g`: 4G, 175 traces, 30.2 h, and 5G mmWave of Lumos5G, 121 traces,
  19.7 h, on foot and in cars (Narayanan et al., IMC 2020 and SIGCOMM 2021).
- `cork-5g`: 5G in Ireland, standing and in cars, 21 downloads, 12.7 h (Raca et al., MMSys 2020).

The first two were read from the copy of sabre (Spiteri et al., MMSys 2018), the next two from that
of ABRBench (Luo et al., SABR, arXiv:2509.10486, whose table II tells their ranges), the last from
UCC's own. The papers show ranges and plots, not these numbers; `benchmarks/trace_statistics.py`
prints them for any folder of traces.
"""


def cellular_trace(
    like: TraceStatistics,
    seed: int | np.random.Generator,
    *,
    duration_s: int = 600,
    id: str = "cellular",
) -> Trace:
    """Trace of a mobile link with given statistics, a point per second.

    Each trace draws its mean (a gamma distribution). Around it the bandwidth has a gamma
    distribution too, of a normal variable that is a slow first-order Markov chain plus independent
    noise; a second Markov chain switches the link off and on. Means and deviations follow from

        (1 + between²)(1 + within²) = (1 - outages)(1 + (deviation / mean)²)

    for a product of independent factors.

    Args:
        like: The statistics; `CELLULAR` holds those of published sets.
        seed: Seed or generator; the same seed gives the same trace.
        duration_s: Length in s.
        id: The trace's id.

    Raises:
        ValueError: Traces whose means differ more than their seconds do.

    Source: Markov chains of bandwidth as in Pensieve (Mao et al., SIGCOMM 2017, section 5.1), with
    outages by the two states of Gilbert (Bell System Technical Journal, 1960).
    """
    from scipy.special import gammaincinv, ndtr

    rng = np.random.default_rng(seed)
    within = _within(like)
    mean = like.mean_mbps / (1 - like.outages)
    if like.between:
        mean *= rng.gamma(like.between**-2) * like.between**2
    rank = np.clip(ndtr(_correlated(like, within, duration_s, rng)), 1e-9, 1 - 1e-9)
    bandwidth = mean * within * gammaincinv(1 / within, rank)
    bandwidth[_off(like, duration_s, rng)] = 0.0
    if not bandwidth.any():
        bandwidth[-1] = mean
    time_s = np.arange(duration_s + 1, dtype=float)
    return Trace(id, time_s, np.concatenate([bandwidth[:1], bandwidth]))


def _within(like: TraceStatistics) -> float:
    """Squared deviation over mean of the bandwidth of one trace between its outages."""
    spread = (like.deviation_mbps / like.mean_mbps) ** 2
    within = (1 - like.outages) * (1 + spread) / (1 + like.between**2) - 1
    if within <= 0:
        raise ValueError(
            f"`between` must be smaller than the deviation of all seconds allows, got "
            f"{like.between} with {like.deviation_mbps} around {like.mean_mbps} Mbit/s."
        )
    return within


def _correlated(
    like: TraceStatistics, within: float, count: int, rng: np.random.Generator
) -> Float[ndarray, "second"]:
    """Normal variables: a slow part that forgets step by step, and noise."""
    after_1_s, after_5_s = np.log1p(
        within * np.clip([like.after_1_s, like.after_5_s], 0.01, 0.99)
    ) / np.log1p(within)
    stay = min((after_5_s / after_1_s) ** 0.25, 0.999)
    slow_share = min(after_1_s / stay, 1.0)
    slow = rng.standard_normal(count)
    slow[1:] *= np.sqrt(1 - stay**2)
    for i in range(1, count):
        slow[i] += stay * slow[i - 1]
    noise = rng.standard_normal(count)
    return np.asarray(np.sqrt(slow_share) * slow + np.sqrt(1 - slow_share) * noise)


def _off(like: TraceStatistics, count: int, rng: np.random.Generator) -> Bool[ndarray, "second"]:
    """Seconds of outage, which begin and end by chance."""
    ends = 1 / like.outage_s
    begins = ends * like.outages / (1 - like.outages)
    chance = rng.random(count)
    off = np.zeros(count, bool)
    off[0] = chance[0] < like.outages
    for i in range(1, count):
        off[i] = chance[i] >= ends if off[i - 1] else chance[i] < begins
    return off
