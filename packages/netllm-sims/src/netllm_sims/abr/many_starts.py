"""A larger test set for finer verdicts: the traces of fcc-test from many starts."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from netllm_sims.abr.sessions import Session
from netllm_sims.abr.traces import Trace

EVERY_S = 20.0
"""Seconds between two starts in a trace."""
PLAYED_S = 240.0
"""Seconds of its trace that a session plays at most, as a rule: 192 s of video, and stalls."""
_RUN = 10


def many_starts(published: Sequence[Session], learned_from: Sequence[Session]) -> list[Session]:
    """The published sessions' traces from a start every 20 s, all traces at the first start first.

    Sessions keep their trace's tags. `fresh` marks a start from which 240 s are played without any
    stretch (see `stretches`) of a trace that was learned from: not every trace of which some part
    was heard in training is lost.

    Args:
        published: Sessions with the traces.
        learned_from: Sessions of training and validation.
    """
    heard = heard_stretches(session.trace for session in learned_from)
    marks = [_heard_points(session.trace, heard) for session in published]
    longest_s = max(session.trace.period_s for session in published)
    return [
        _session(session, float(start_s), mark)
        for start_s in np.arange(0.0, longest_s, EVERY_S)
        for session, mark in zip(published, marks, strict=True)
        if start_s < session.trace.period_s
    ]


def stretches(trace: Trace) -> dict[bytes, tuple[int, ...]]:
    """All runs of ten bandwidths with more than four different ones, and where each begins.

    Constants tell nothing. Points are counted from the trace's second, the first that is used.
    """
    bandwidth = trace.bandwidth_mbps[1:]
    found: dict[bytes, tuple[int, ...]] = {}
    for first in range(len(bandwidth) - _RUN + 1):
        run = bandwidth[first : first + _RUN]
        if len(set(run.tolist())) > 4:
            key = run.tobytes()
            found[key] = (*found.get(key, ()), first)
    return found


def heard_stretches(traces: Iterable[Trace]) -> set[bytes]:
    """The stretches of all traces."""
    heard: set[bytes] = set()
    return heard.union(*map(stretches, traces))


def _heard_points(trace: Trace, heard: set[bytes]) -> Bool[ndarray, "point"]:
    points = np.zeros(len(trace.time_s) - 1, bool)
    for run, firsts in stretches(trace).items():
        if run in heard:
            for first in firsts:
                points[first : first + _RUN] = True
    return points


def _session(session: Session, start_s: float, heard: Bool[ndarray, "point"]) -> Session:
    trace = session.trace
    middle_s = (trace.time_s[1:] + np.append(0.0, trace.time_s[1:-1])) / 2
    played = (middle_s - start_s) % trace.period_s < PLAYED_S
    tags = session.tags if heard[played].any() else (*session.tags, "fresh")
    return Session(f"{session.id}@{start_s:.0f}s", trace, start_s, tags=tags)
