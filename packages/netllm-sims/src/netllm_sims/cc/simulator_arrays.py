"""The arrays that the compiled core works on, grouped; all are contiguous, row by row."""

from typing import NamedTuple

from jaxtyping import Float, Int
from numpy import ndarray

TICKS = 4
"""Steps of the fluid model in a monitoring interval."""
ROUND_TRIP = 2 * TICKS
"""Steps in a round trip without a queue: after so many a sender notices what left the queue."""
MOST_RATIO = 10.0
"""Observed ratios of rates are at most this."""

CAPACITY, SERVED, ARRIVED, SENT, ADMITTED = range(5)
"""Columns of `State.history`; `SENT` and `ADMITTED` come again, two further on, for each flow."""


class Links(NamedTuple):
    """What does not change during an episode."""

    tick_s: Float[ndarray, "batch"]
    """Length of a step."""
    buffer_bytes: Float[ndarray, "batch"]
    capacity: Float[ndarray, "batch"]
    """Mean capacity over the episode, in bytes/s."""
    gaps: Float[ndarray, "batch flow gap"]
    """Bytes that a flow sends from one chance loss to the next; used in a circle."""
    first: Int[ndarray, "batch flow"]
    """Step in which a flow begins."""


class State(NamedTuple):
    """Where every link stands."""

    history: Float[ndarray, "batch tick column"]
    """At the end of every step, from the episode's start: bytes that the link could have carried;
    bytes that it did carry; when what leaves now had come, in steps; then for each flow bytes sent
    and bytes that the queue has taken."""
    control: Float[ndarray, "batch flow 2"]
    """Pacing rate in bytes/s, and most bytes in flight."""
    lucky: Float[ndarray, "batch flow"]
    """Bytes until the next chance loss."""
    owed: Float[ndarray, "batch flow"]
    """Bytes of a lost packet that is not sent to its end yet."""
    gap: Int[ndarray, "batch flow"]
    """Number of the gap that follows."""
    cubic: Float[ndarray, "batch flow column"]
    """Of the competitors, see `compiled_cubic`."""


class View(NamedTuple):
    """What the senders see."""

    series: Float[ndarray, "8 batch past"]
    """Sent, throughput, round-trip time, its inflation, share lost, the round-trip time's gradient,
    sent over throughput, and throughput over the present rate; the newest last."""
    scalars: Float[ndarray, "6 batch"]
    """Rate in Mbit/s, packets in flight, shortest round trip in ms, interval in ms, reward, and
    lost bytes/s."""
