"""The arrays that the compiled core works on, grouped.

All are contiguous, row by row: numba 0.60 confuses memory layouts within a group.
"""

from typing import NamedTuple

from jaxtyping import Float, Int
from numpy import ndarray


class Link(NamedTuple):
    """The bandwidth of every session: tables of `link.curve` under one another."""

    curve: Float[ndarray, "row 4"]
    first: Int[ndarray, "batch"]
    last: Int[ndarray, "batch"]
    """Closing row of the session's table."""
    unscale: Float[ndarray, "batch"]
    """Bytes on the curve per byte downloaded."""
    start_s: Float[ndarray, "batch"]


class Ladder(NamedTuple):
    """The videos of all sessions: their chunks under one another, rows of 0 after each video's.

    Sessions that play the same video share its rows.
    """

    sizes_bytes: Float[ndarray, "row level"]
    rates_kbps: Float[ndarray, "level"]
    quality: Float[ndarray, "row level"]
    """Quality of each chunk in thousandths."""
    table_mb: Float[ndarray, "cell"]
    """The same sizes in MB, row by row."""
    first: Int[ndarray, "batch"]
    """Row of the first chunk of the session's video."""


class Knobs(NamedTuple):
    """The numbers of `Setting`."""

    rebuffering: float
    smoothness: float
    chunk_s: float
    rtt_s: float
    latency_s: float
    buffer_cap_s: float
    drain_s: float


class State(NamedTuple):
    """Where every session stands."""

    row: Int[ndarray, "batch"]
    """Row of the curve."""
    place: Float[ndarray, "batch 3"]
    """Time in the period in s, bytes that the curve delivered before it, playback buffer in s."""
    level: Int[ndarray, "batch"]
    """Level of the last chunk."""


class View(NamedTuple):
    """What the players see."""

    throughput_mbps: Float[ndarray, "batch past"]
    delay_s: Float[ndarray, "batch past"]
    sizes_mb: Float[ndarray, "batch cell"]
    scalars: Float[ndarray, "6 batch"]
    """Rate in kbit/s, buffer in s, stall in s, chunks left, reward, change in Mbit/s."""


class Live(NamedTuple):
    """What only sessions near the live edge have: the numbers of `Setting`, state and view."""

    target_s: float
    """Latency aimed at."""
    catch_up: float
    """Largest change of the speed of playback."""
    skip_s: float
    """Latency above the target from which playback jumps to it."""
    near_s: float
    """Latency up to which its weight in the QoE is `near`, and beyond `late`."""
    near: float
    late: float
    speed: float
    """Weight of the deviation of the speed from 1."""
    latency_s: Float[ndarray, "batch"]
    """Latency of every session."""
    seen: Float[ndarray, "2 batch"]
    """What the players see of it: latency in s, and mean speed since the chunk before."""
