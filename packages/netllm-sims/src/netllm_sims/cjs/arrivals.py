"""When jobs arrive: at a steady rate, in bursts, by day and night, or at a rate that shifts."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.cjs.jobs import Workload

Arrivals = Literal["poisson", "bursts", "day-night", "shift"]
PATTERNS: tuple[str, ...] = get_args(Arrivals)

BURST = 10
"""Jobs of a burst, on average; within one they come this many times as fast as on average."""
DAY = 100
"""Length of a day, in mean times between two arrivals: a setting's 200 jobs take two days."""
SWING = 0.8
"""Of the rate, by day and night: nine times as many jobs come at noon as at midnight."""
SHIFT = 2.0
"""Rate of the second half of the jobs, over that of the first."""


def arrival_ms(pattern: Arrivals, seed: int, jobs: int, mean_ms: float) -> Float[ndarray, "job"]:
    """Arrivals by another pattern than `poisson`, the first at 0; m is the mean time between two.

    - `bursts`: with probability 1 - 1/B a wait is exponential with the mean m/B, and else one with
      the mean m (B - 1 + 1/B) between two bursts; B = `BURST`. The mean is m, the squared
      coefficient of variation 15.6 and not 1.
    - `day-night`: a Poisson process with the rate (1 + a sin(2π (t/T + φ))) / m, where a = `SWING`,
      T = `DAY` · m, and the hour φ at which an episode begins is drawn from [0, 1).
    - `shift`: waits before the second half of the jobs are exponential with the mean m / `SHIFT`,
      the others with m.

    Draws are from `numpy.random.default_rng([seed, 1])`: the jobs themselves are drawn apart.

    Source: bursts are renewal processes with hyperexponential waits (Kuczura: The interrupted
        Poisson process as an overflow process, Bell System Technical Journal 1973); day and night
        are drawn by thinning (Lewis & Shedler, Naval Research Logistics Quarterly 1979).
    """
    rng = np.random.default_rng([seed, 1])
    if pattern == "day-night":
        return _day_and_night_ms(rng, jobs, mean_ms)
    waits_ms = rng.exponential(mean_ms, jobs - 1)
    if pattern == "bursts":
        between = rng.random(jobs - 1) < 1 / BURST
        waits_ms *= np.where(between, BURST - 1 + 1 / BURST, 1 / BURST)
    elif pattern == "shift":
        waits_ms[jobs // 2 - 1 :] /= SHIFT
    return np.cumsum([0.0, *waits_ms])


def _day_and_night_ms(rng: np.random.Generator, jobs: int, mean_ms: float) -> Float[ndarray, "job"]:
    """Arrivals at the highest rate, of which those stay that the hour's rate grants."""
    hour, days, found = rng.random(), 0.0, [0.0]
    while len(found) < jobs:
        days += rng.exponential(1 / (DAY * (1 + SWING)))
        rate = 1 + SWING * np.sin(2 * np.pi * (days + hour))
        if rng.random() * (1 + SWING) < rate:
            found.append(days * DAY * mean_ms)
    return np.array(found)


def rearranged(jobs: Workload, pattern: Arrivals, seed: int, mean_ms: float) -> Workload:
    """The same jobs in the same order, arriving by another pattern; as they are if by `poisson`."""
    if pattern == "poisson":
        return jobs
    return jobs.at(arrival_ms(pattern, seed, len(jobs), mean_ms))
