"""The compiled heart of the simulator, imported at its first use since numba is slow to import."""

from math import ceil, floor

from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.abr.simulator_arrays import Knobs, Ladder, Link, State, View
from netllm_sims.compilation import compiled

Curve = Float[ndarray, "row 4"]


@compiled
def seek(curve: Curve, column: int, row: int, last: int, value: float) -> int:
    """Row at or after `row` whose segment holds `value`: galloping from `row`, then bisection.

    The caller guarantees `curve[row, column] <= value < curve[last, column]`. Of rows with an equal
    start it is the last: a chunk that is complete when an outage begins counts as complete when the
    outage ends, as in the reference's loop.
    """
    high = row + 1
    width = 1
    while curve[high, column] <= value:
        row = high
        high = min(high + width, last)
        width *= 2
    while high - row > 1:
        middle = (row + high) >> 1
        if curve[middle, column] <= value:
            row = middle
        else:
            high = middle
    return row


@compiled
def wait(
    curve: Curve, first: int, last: int, row: int, time_s: float, seconds: float
) -> tuple[int, float, float]:
    """Place on the curve after `seconds`: its row, its time, bytes delivered before it."""
    period_s = curve[last, 0]
    time_s += seconds
    if time_s >= period_s:
        time_s -= floor(time_s / period_s) * period_s
        row = first
        if time_s < 0.0 or time_s >= period_s:
            time_s = 0.0
    row = seek(curve, 0, row, last, time_s)
    return row, time_s, curve[row, 1] + curve[row, 2] * (time_s - curve[row, 0])


@compiled
def transfer(
    curve: Curve, first: int, last: int, row: int, time_s: float, done: float, size: float
) -> tuple[int, float, float, float]:
    """Place where `size` more bytes have come: row, time, bytes before it, and seconds taken."""
    total = curve[last, 1]
    target = done + size
    laps = 0.0
    if target >= total:
        laps = floor(target / total)
        target -= laps * total
        row = first
        if target < 0.0:
            target = 0.0
        elif target >= total:
            target -= total
            laps += 1.0
    row = seek(curve, 1, row, last, target)
    end_s = min(curve[row, 0] + (target - curve[row, 1]) * curve[row, 3], curve[row + 1, 0])
    return row, end_s, target, laps * curve[last, 0] + end_s - time_s


@compiled
def begin(link: Link, state: State) -> None:
    """Put every session at its start, with an empty buffer and level 0."""
    for b in range(state.row.shape[0]):
        first, last = link.first[b], link.last[b]
        row, time_s, done = wait(link.curve, first, last, first, 0.0, link.start_s[b])
        state.row[b] = row
        state.place[b, 0], state.place[b, 1], state.place[b, 2] = time_s, done, 0.0
        state.level[b] = 0


@compiled
def fetch(
    curve: Curve,
    first: int,
    last: int,
    place: tuple[int, float, float, float],
    size: float,
    noise: float,
    knobs: Knobs,
) -> tuple[tuple[int, float, float, float], float, float]:
    """Download `size` bytes: the place afterwards, seconds measured, and stall in s.

    A place is row, time s, bytes delivered before it, and playback buffer s.
    """
    row, time_s, done, buffer_s = place
    if knobs.latency_s > 0.0:
        row, time_s, done = wait(curve, first, last, row, time_s, knobs.latency_s)
    row, time_s, done, took_s = transfer(curve, first, last, row, time_s, done, size)
    took_s = (took_s + knobs.rtt_s) * noise
    away_s = took_s + knobs.latency_s
    stall_s = max(away_s - buffer_s, 0.0)
    buffer_s = max(buffer_s - away_s, 0.0) + knobs.chunk_s
    if buffer_s > knobs.buffer_cap_s:
        rest_s = ceil((buffer_s - knobs.buffer_cap_s) / knobs.drain_s) * knobs.drain_s
        buffer_s -= rest_s
        row, time_s, done = wait(curve, first, last, row, time_s, rest_s)
    return (row, time_s, done, buffer_s), took_s, stall_s


@compiled
def earned(
    quality: Float[ndarray, "row level"],
    row: int,
    chunk: int,
    level: int,
    previous: int,
    stall_s: float,
    knobs: Knobs,
) -> float:
    """QoE of the chunk in a row of the table, after one at level `previous` if there was any."""
    worth = quality[row, level]
    change = abs(worth - quality[row - (chunk > 0), previous]) * 1e-3
    return worth * 1e-3 - knobs.rebuffering * stall_s - knobs.smoothness * change


@compiled
def push(history: Float[ndarray, "batch past"], b: int, value: float) -> None:
    """Forget the oldest value of session `b` and append the newest."""
    newest = history.shape[1] - 1
    for i in range(newest):
        history[b, i] = history[b, i + 1]
    history[b, newest] = value


@compiled
def play(
    chunk: int,
    left: int,
    level: Int[ndarray, "batch"],
    noise: Float[ndarray, "chunk batch"],
    link: Link,
    ladder: Ladder,
    knobs: Knobs,
    state: State,
    view: View,
) -> int:
    """Download chunk number `chunk` of every session and write what the players then see.

    `noise` may be empty. Returns -1, or the first session whose level is not on the ladder; then
    nothing was changed.
    """
    # names for the arrays outside the loop: numba counts references at every attribute of a group
    curve, first, last, unscale, _ = link
    sizes, rates, quality, table, first_chunk = ladder
    row, place, previous = state
    throughput_mbps, delay_s, sizes_mb, scalars = view
    for b in range(level.shape[0]):
        if level[b] < 0 or level[b] >= rates.shape[0]:
            return b
    for b in range(level.shape[0]):
        of_video = first_chunk[b] + chunk
        size = sizes[of_video, level[b]]
        factor = noise[chunk, b] if noise.shape[0] > 0 else 1.0
        here = row[b], place[b, 0], place[b, 1], place[b, 2]
        here, took_s, stall_s = fetch(
            curve, first[b], last[b], here, size * unscale[b], factor, knobs
        )
        row[b], place[b, 0], place[b, 1], place[b, 2] = here
        rate = rates[level[b]]
        change_mbps = abs(rate - rates[previous[b]]) * 1e-3
        reward = earned(quality, of_video, chunk, level[b], previous[b], stall_s, knobs)
        previous[b] = level[b]
        push(throughput_mbps, b, size * 8e-6 / took_s)
        push(delay_s, b, took_s)
        ahead = (of_video + 1) * rates.shape[0]
        for i in range(sizes_mb.shape[1]):
            sizes_mb[b, i] = table[ahead + i]
        scalars[0, b], scalars[1, b], scalars[2, b] = rate, place[b, 2], stall_s
        scalars[3, b], scalars[4, b], scalars[5, b] = left, reward, change_mbps
    return -1
