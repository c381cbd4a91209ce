"""The link of a session as a cumulative-capacity curve."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.abr.traces import Trace


def curve(trace: Trace, *, packet_share: float = 0.95) -> Float[ndarray, "row 4"]:
    """Segments of a trace: start in s, bytes delivered before it, bytes/s, s/byte (0 in an outage).

    The last row closes the period: `(period s, bytes per period, 0, 0)`. The curve C(t) runs
    linearly from row to row, starts again after the period, and a download of b bytes begun at t
    ends where the curve reaches C(t) + b.

    Args:
        trace: The trace.
        packet_share: Share of the bandwidth left for payload after packet headers.
    """
    ends_s = trace.time_s[1:]
    starts_s = np.concatenate([[0.0], ends_s[:-1]])
    rate = trace.bandwidth_mbps[1:] * (1e6 / 8) * packet_share
    done = np.concatenate([[0.0], np.cumsum(rate * (ends_s - starts_s))])
    inverse = np.divide(1.0, rate, out=np.zeros_like(rate), where=rate > 0)
    rows = np.zeros((len(ends_s) + 1, 4))
    rows[:-1, 0], rows[-1, 0] = starts_s, ends_s[-1]
    rows[:, 1] = done
    rows[:-1, 2], rows[:-1, 3] = rate, inverse
    return rows


def curves(
    traces: Sequence[Trace], *, packet_share: float = 0.95
) -> tuple[Float[ndarray, "row 4"], Int[ndarray, "trace"], Int[ndarray, "trace"]]:
    """Curves of all traces under one another, and the first and the closing row of each."""
    tables = [curve(trace, packet_share=packet_share) for trace in traces]
    ends = np.cumsum([len(table) for table in tables])
    starts = np.concatenate([[0], ends[:-1]])
    return np.concatenate(tables), starts, ends - 1


def capacity_bytes(
    rows: Float[ndarray, "row 4"], time_s: Float[ndarray, "*time"]
) -> Float[ndarray, "*time"]:
    """Bytes that a curve has delivered from 0 to each time, counting whole periods too."""
    laps, rest_s = np.divmod(time_s, rows[-1, 0])
    return np.asarray(laps * rows[-1, 1] + np.interp(rest_s, rows[:, 0], rows[:, 1]))


def delivery_s(
    rows: Float[ndarray, "row 4"], count_bytes: Float[ndarray, "*count"]
) -> Float[ndarray, "*count"]:
    """When a curve has delivered so many bytes from 0 on, counting whole periods too.

    The inverse of `capacity_bytes`: the first such time, so an outage is waited for only by what
    comes after it.
    """
    laps, rest = np.divmod(count_bytes, rows[-1, 1])
    row = np.maximum(np.searchsorted(rows[:, 1], rest, side="left") - 1, 0)
    return np.asarray(laps * rows[-1, 0] + rows[row, 0] + (rest - rows[row, 1]) * rows[row, 3])
