"""More traces from few: stretched, disturbed and spliced ones to learn from."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from netllm_sims.abr.sessions import Session
from netllm_sims.abr.traces import Trace, first_fault

SCALES = (0.5, 1.8)
"""Range of the factor on an altered session's bandwidth."""


def alter(
    session: Session,
    others: Sequence[Session],
    rng: np.random.Generator,
    *,
    stretch: float = 0.5,
    noise: float = 0.3,
    noise_points: int = 10,
    splice_share: float = 0.3,
) -> Session:
    """The session on an altered trace; who learns from the few originals knows them by heart.

    Time runs up to e^`stretch` faster or slower, the bandwidth is multiplied by log-normal noise,
    and the trace may go over into another one 20 to 150 s after the start.

    Args:
        session: What to alter.
        others: Sessions whose traces may follow.
        rng: Randomness.
        stretch: Largest exponent of the change of speed.
        noise: Largest sigma of the noise.
        noise_points: Longest run of points that share their noise.
        splice_share: Probability of going over into another trace.
    """
    factor = float(np.exp(rng.uniform(-stretch, stretch)))
    time_s = session.trace.time_s * factor
    bandwidth = session.trace.bandwidth_mbps
    sigma, run = rng.uniform(0, noise), int(rng.integers(1, noise_points + 1))
    steps = rng.normal(-(sigma**2) / 2, sigma, len(bandwidth) // run + 1)
    bandwidth = bandwidth * np.exp(np.repeat(steps, run)[: len(bandwidth)])
    start_s = session.start_s * factor
    origins = session.contents
    if rng.random() < splice_share:
        cut = int(np.searchsorted(time_s, start_s + rng.uniform(20, 150)))
        if 1 < cut < len(time_s):
            follows = others[int(rng.integers(len(others)))]
            other, origins = follows.trace, origins | follows.contents
            first = int(rng.integers(len(other.time_s) // 2 + 1))
            later_s = other.time_s[first + 1 :] - other.time_s[first] + time_s[cut - 1]
            time_s = np.concatenate([time_s[:cut], later_s])
            bandwidth = np.concatenate([bandwidth[:cut], other.bandwidth_mbps[first + 1 :]])
    if first_fault(time_s, bandwidth) is not None:
        return session
    trace = Trace(id=session.trace.id, time_s=time_s, bandwidth_mbps=bandwidth)
    start_s = min(start_s, 0.999 * trace.period_s)
    return replace(session, trace=trace, start_s=start_s, origins=origins)


def alter_some(
    sessions: Sequence[Session],
    others: Sequence[Session],
    rng: np.random.Generator,
    *,
    share: float,
) -> list[Session]:
    """The sessions, a share of them altered, and a share scaled by a factor within `SCALES`.

    A share of 0 draws nothing from `rng`.
    """
    if share == 0:
        return list(sessions)
    altered = [alter(s, others, rng) if rng.random() < share else s for s in sessions]
    return [
        replace(s, scale=s.scale * rng.uniform(*SCALES)) if rng.random() < share else s
        for s in altered
    ]
