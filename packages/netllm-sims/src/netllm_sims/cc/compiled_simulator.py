"""The compiled heart of the simulator, imported at its first use since numba is slow to import."""

from jaxtyping import Float
from numpy import ndarray

from netllm_sims.cc.compiled_cubic import cubic
from netllm_sims.cc.links import PACKET_BYTES
from netllm_sims.cc.simulator_arrays import (
    ADMITTED,
    ARRIVED,
    CAPACITY,
    MOST_RATIO,
    ROUND_TRIP,
    SENT,
    SERVED,
    TICKS,
    Links,
    State,
    View,
)
from netllm_sims.cc.utility import LOSS_WEIGHT, MARGIN
from netllm_sims.compilation import compiled

NOTICEABLE_BYTES = 1.0
"""What is lost, or measured by its round trip, has at least a byte; less is left by rounding."""
DUST_BYTES = 1e-5
"""A queue below it is empty."""

History = Float[ndarray, "tick column"]
"""`State.history` of one link."""
Seen = tuple[float, float, float]
"""Of a flow in one interval: bytes acknowledged, bytes lost, mean round-trip time in steps."""


@compiled
def run(interval: int, links: Links, state: State, view: View) -> None:
    """Send through one monitoring interval, and write what the senders then see."""
    # names for the arrays outside the loop: numba counts references at every attribute of a group
    histories, control, lucky, owed, gap, cubics = state
    tick_s, buffer_bytes, capacity, gaps, first = links
    series, scalars = view
    start, end = interval * TICKS, (interval + 1) * TICKS
    for b in range(histories.shape[0]):
        history = histories[b]
        for k in range(start, end):
            known = noticed(history, k + 1)  # what is noticed in the step makes room at once
            for flow in range(control.shape[1]):
                most = control[b, flow, 0] * tick_s[b] if k >= first[b, flow] else 0.0
                new = send(history, k, 2 * flow, most, control[b, flow, 1], known)
                lucky[b, flow] -= new
                while lucky[b, flow] < 0.0:
                    owed[b, flow] += PACKET_BYTES
                    lucky[b, flow] += gaps[b, flow, gap[b, flow]]
                    gap[b, flow] = (gap[b, flow] + 1) % gaps.shape[2]
                if owed[b, flow] > 0.0:
                    lost = min(owed[b, flow], new)
                    owed[b, flow] -= lost
                    history[k + 1, ADMITTED + 2 * flow] -= lost
            serve(history, k, buffer_bytes[b])
        seen = measure(history, end, 0)
        show(history, end, b, seen, tick_s[b], series, scalars)
        judge(b, seen, control[b, 0, 0], control[b, 0, 1], capacity[b], tick_s[b], scalars)
        compare(b, series, scalars)
        for flow in range(1, control.shape[1]):
            if end > first[b, flow]:
                acked, lost, rtt = measure(history, end, 2 * flow)
                acked, lost = acked / PACKET_BYTES, lost / PACKET_BYTES
                control[b, flow, 0], control[b, flow, 1] = cubic(
                    cubics[b, flow], acked, lost, rtt * tick_s[b], TICKS * tick_s[b]
                )


@compiled
def at(history: History, column: int, time: float) -> float:
    """A column's value at a time in steps, linear between two of them."""
    row = int(time)
    share = time - row
    value: float = history[row, column]
    if share > 0.0:
        value += share * (history[row + 1, column] - value)
    return value


@compiled
def noticed(history: History, k: int) -> float:
    """Time, in steps, up to which a sender knows at step `k` what became of all it sent."""
    return history[k - ROUND_TRIP, ARRIVED] if k > ROUND_TRIP else 0.0


@compiled
def send(history: History, k: int, shift: int, most: float, window: float, known: float) -> float:
    """Bytes that a flow sends in a step: at most so many, and none beyond its window."""
    sent, admitted = SENT + shift, ADMITTED + shift
    in_flight = history[k, sent] - at(history, sent, known)
    new = min(most, max(window - in_flight, 0.0))
    history[k + 1, sent] = history[k, sent] + new
    history[k + 1, admitted] = history[k, admitted] + new
    return new


@compiled
def serve(history: History, k: int, buffer_bytes: float) -> None:
    """Take into the queue what it has room for, of each flow the same share, and carry what leaves.

    First in, first out; writes what was carried, and when what leaves last had come.
    """
    before, after = total(history, k), total(history, k + 1)
    capacity = history[k + 1, CAPACITY] - history[k, CAPACITY]
    room = max(buffer_bytes + capacity - (before - history[k, SERVED]), 0.0)
    if after - before > room:
        kept = room / (after - before)
        for column in range(ADMITTED, history.shape[1], 2):
            new = history[k + 1, column] - history[k, column]
            history[k + 1, column] = history[k, column] + new * kept
        after = total(history, k + 1)
    served = history[k, SERVED] + capacity
    if served > after - DUST_BYTES:
        served = after
    row = int(history[k, ARRIVED])
    below, above = total(history, row), total(history, row + 1)
    while above <= served and row <= k:
        row += 1
        below = above
        above = total(history, row + 1) if row <= k else above
    share = (served - below) / (above - below) if row <= k and served > below else 0.0
    history[k + 1, SERVED] = served
    history[k + 1, ARRIVED] = row + share


@compiled
def total(history: History, row: int) -> float:
    """Bytes that the queue has taken of all flows."""
    value: float = history[row, ADMITTED]
    for column in range(ADMITTED + 2, history.shape[1], 2):
        value += history[row, column]
    return value


@compiled
def measure(history: History, k: int, shift: int) -> Seen:
    """What a flow noticed in the interval that ends at step `k`.

    Where nothing was acknowledged, the round-trip time is that of the byte that waits longest.
    """
    sent, admitted = SENT + shift, ADMITTED + shift
    begin = end = max(k - TICKS - ROUND_TRIP, 0)
    since = until = history[begin, ARRIVED]
    first = before = at(history, admitted, since)
    left = 0.0  # bytes times when they left the queue
    while end < k - ROUND_TRIP:
        end += 1
        until = history[end, ARRIVED]
        after = at(history, admitted, until)
        left += (after - before) * (end - 0.5)
        before = after
    acked = before - first
    lost = at(history, sent, until) - at(history, sent, since) - acked
    if lost < NOTICEABLE_BYTES:
        lost = 0.0
    if acked >= NOTICEABLE_BYTES:
        waited = max(left - came(history, admitted, since, until), 0.0)
        return acked, lost, ROUND_TRIP + waited / acked
    return acked, lost, ROUND_TRIP + end - until


@compiled
def came(history: History, column: int, since: float, until: float) -> float:
    """Bytes that the queue took between two times, times when it took them."""
    value, row = 0.0, int(since)
    while row < until:
        begin, end = max(since, row), min(until, row + 1.0)
        new = history[row + 1, column] - history[row, column]
        value += new * (end - begin) * (end + begin) / 2
        row += 1
    return value


@compiled
def show(
    history: History,
    k: int,
    b: int,
    seen: Seen,
    tick_s: float,
    series: Float[ndarray, "8 batch past"],
    scalars: Float[ndarray, "6 batch"],
) -> None:
    """Write what the first flow has measured by step `k`."""
    acked, lost, rtt = seen
    rtt_ms, to_mbps = rtt * tick_s * 1e3, 8e-6 / (TICKS * tick_s)
    in_flight = history[k, SENT] - at(history, SENT, noticed(history, k))
    scalars[1, b] = in_flight / PACKET_BYTES
    scalars[2, b] = min(scalars[2, b], rtt_ms)
    newest = series.shape[2] - 1
    before_ms = series[2, b, newest]
    for i in range(7):
        for past in range(newest):
            series[i, b, past] = series[i, b, past + 1]
    series[0, b, newest] = (history[k, SENT] - history[k - TICKS, SENT]) * to_mbps
    series[1, b, newest] = acked * to_mbps
    series[2, b, newest] = rtt_ms
    series[3, b, newest] = max(rtt_ms / scalars[2, b] - 1.0, 0.0)
    series[4, b, newest] = lost / (acked + lost) if lost > 0.0 else 0.0
    change = (rtt_ms - before_ms) / (TICKS * tick_s * 1e3) if before_ms > 0.0 else 0.0
    series[5, b, newest] = min(max(change, -1.0), 1.0)
    series[6, b, newest] = ratio(series[0, b, newest], series[1, b, newest])


@compiled
def compare(
    b: int, series: Float[ndarray, "8 batch past"], scalars: Float[ndarray, "6 batch"]
) -> None:
    """Write throughputs over the rate that led to the last of them."""
    for past in range(series.shape[2]):
        series[7, b, past] = ratio(series[1, b, past], scalars[0, b])


@compiled
def ratio(rate: float, other: float) -> float:
    """One rate over another, at most `MOST_RATIO`."""
    return min(rate / other, MOST_RATIO) if other > 0.0 else (MOST_RATIO if rate > 0.0 else 0.0)


@compiled
def judge(
    b: int,
    seen: Seen,
    rate: float,
    window: float,
    capacity: float,
    tick_s: float,
    scalars: Float[ndarray, "6 batch"],
) -> None:
    """Write the utility of an interval, and the rate, by pacing and window, that led to it."""
    acked, lost, rtt = seen
    interval_s = TICKS * tick_s
    power = (acked - LOSS_WEIGHT * lost) / interval_s / capacity
    scalars[0, b] = min(rate, window / (rtt * tick_s)) * 8e-6
    scalars[4, b] = power * min(1.0, MARGIN * ROUND_TRIP / rtt)
    scalars[5, b] = lost / interval_s
