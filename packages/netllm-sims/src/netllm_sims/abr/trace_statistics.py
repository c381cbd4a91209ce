"""What a set of bandwidth traces is like, in a few numbers."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from netllm_sims.abr.link import capacity_bytes, curve
from netllm_sims.abr.traces import Trace

OUTAGE_MBPS = 0.1
"""Bandwidth in Mbit/s below which a second counts as an outage."""
_LEAST_S = 60


@dataclass(frozen=True, kw_only=True)
class TraceStatistics:
    """Bandwidth of a set of traces, second by second.

    Raises:
        ValueError: A number outside its range.
    """

    mean_mbps: float
    """Mean of all seconds, in Mbit/s."""
    deviation_mbps: float
    """Standard deviation of all seconds, in Mbit/s."""
    between: float
    """Standard deviation of the traces' means, over the mean of these."""
    outages: float
    """Share of the seconds with less than `OUTAGE_MBPS`."""
    outage_s: float
    """Mean length of an outage, in s; 1 if there is none."""
    after_1_s: float
    """Autocorrelation of a trace from one second to the next, mean over the traces."""
    after_5_s: float
    """The same over five seconds."""

    def __post_init__(self) -> None:
        finite, share = (0.0, np.inf), (-1.0, 1.0)
        ranges = {
            "mean_mbps": (1e-6, np.inf),
            "deviation_mbps": finite,
            "between": finite,
            "outages": (0.0, 0.999),
            "outage_s": (1.0, np.inf),
            "after_1_s": share,
            "after_5_s": share,
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not (np.isfinite(value) and least <= value <= most):
                raise ValueError(
                    f"`{name}` must be finite and in [{least:g}, {most:g}], got {value}."
                )


def trace_statistics(traces: Iterable[Trace]) -> TraceStatistics:
    """Statistics of the traces that last at least a minute, each cut into seconds.

    Args:
        traces: The traces.

    Raises:
        ValueError: None lasts a minute.
    """
    cut = [_seconds(trace) for trace in traces if trace.period_s >= _LEAST_S]
    if not cut:
        raise ValueError(f"There must be a trace of at least {_LEAST_S} s, got none. Record more.")
    every = np.concatenate(cut)
    means = np.array([one.mean() for one in cut])
    lengths = np.concatenate([_runs(one < OUTAGE_MBPS) for one in cut])
    after = np.array([[_autocorrelation(one, lag) for lag in (1, 5)] for one in cut])
    after_1_s, after_5_s = after.mean(axis=0)
    return TraceStatistics(
        mean_mbps=float(every.mean()),
        deviation_mbps=float(every.std()),
        between=float(means.std() / means.mean()),
        outages=float((every < OUTAGE_MBPS).mean()),
        outage_s=float(lengths.mean()) if len(lengths) else 1.0,
        after_1_s=float(after_1_s),
        after_5_s=float(after_5_s),
    )


def _seconds(trace: Trace) -> Float[ndarray, "second"]:
    """Mean bandwidth of every whole second, in Mbit/s."""
    marks_s = np.arange(int(trace.period_s) + 1, dtype=float)
    rows = curve(trace, packet_share=1.0)
    # the end of the period is its last second's end, not the start of the next lap
    done = np.minimum(capacity_bytes(rows, marks_s), rows[-1, 1])
    return np.diff(done) * 8e-6


def _runs(marked: Bool[ndarray, "second"]) -> Float[ndarray, "run"]:
    """Length of every run of marked seconds."""
    edges = np.flatnonzero(np.diff(marked.astype(float), prepend=0.0, append=0.0))
    return (edges[1::2] - edges[::2]).astype(float)


def _autocorrelation(values: Float[ndarray, "second"], lag: int) -> float:
    off = values - values.mean()
    power = float(off @ off)
    return float(off[lag:] @ off[:-lag]) / power if power else 1.0
