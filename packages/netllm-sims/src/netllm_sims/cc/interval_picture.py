"""A flow as a picture: capacity, sending rate and throughput above, round-trip times below."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Interval(NamedTuple):
    """What is drawn of one monitoring interval."""

    capacity_mbps: float
    """What the link could carry."""
    sent_mbps: float
    """What was sent."""
    throughput_mbps: float
    """What was acknowledged."""
    rtt_ms: float
    """Mean round-trip time."""


def draw(intervals: Sequence[Interval], figure: Any, *, total: int) -> None:
    """Draw the intervals so far into an empty figure of matplotlib.

    Args:
        intervals: In order.
        figure: Where to draw.
        total: Intervals of the episode.
    """
    upper, lower = figure.subplots(2, 1, sharex=True)
    table = np.array(intervals, np.float64).reshape(-1, len(Interval._fields))
    number = np.arange(len(table))
    capacity_mbps, sent_mbps, throughput_mbps, rtt_ms = table.T
    upper.fill_between(number, capacity_mbps, color="#D0D0D0", step="mid", label="capacity")
    upper.step(number, sent_mbps, where="mid", color="#0072B2", label="sent")
    upper.step(number, throughput_mbps, where="mid", color="#009E73", label="acknowledged")
    upper.set_ylabel("Mbit/s")
    upper.legend(frameon=False, loc="upper right")
    lower.plot(number, rtt_ms, color="#D55E00")
    lower.set(xlabel="monitoring interval", ylabel="round trip, ms", xlim=(-0.5, total - 0.5))
