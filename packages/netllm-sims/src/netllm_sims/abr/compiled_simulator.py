"""The compiled heart of the simulator, imported at its first use since numba is slow to import."""

from math import ceil, exp, floor

from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.abr.simulator_arrays import Knobs, Ladder, Link, Live, State, View
from netllm_sims.compilation import compiled

Curve = Float[ndarray, "row 4"]
TICK_S = 0.1
"""How often the speed is set anew."""
LOW_BUFFER_S = 0.5
"""Buffer in s below which playback slows down, whatever the latency."""
NEAR_ENOUGH = 0.02
"""Deviation from the target, as a share of it, that changes no speed."""
STEEPNESS = 5.0
"""Of the sigmoid, per s of deviation."""


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
def playback_speed(buffer_s: float, latency_s: float, target_s: float, catch_up: float) -> float:
    """Speed of playback: `1 - c + 2 c / (1 + exp(-5 d))`, between 1 - c and 1 + c.

    c is `catch_up`. d is what the buffer has above `LOW_BUFFER_S` where that is negative, else the
    latency above its target; within 2 % of the target the speed is 1.

    Source: "Catchup Logic" (dash.js face-to-face meeting 2022) for the sigmoid; the hybrid of
    buffer and latency is the playback control of LoL+ (Bentaleb et al., IEEE Trans. Multimedia
    2022), with the numbers of its authors.
    """
    if buffer_s < LOW_BUFFER_S:
        off_s = buffer_s - LOW_BUFFER_S
    else:
        off_s = latency_s - target_s
        if abs(off_s) <= NEAR_ENOUGH * target_s:
            return 1.0
    return 1.0 - catch_up + 2.0 * catch_up / (1.0 + exp(-STEEPNESS * off_s))


@compiled
def play_on(
    buffer_s: float, latency_s: float, seconds: float, live: Live
) -> tuple[float, float, float, float]:
    """Play for so many seconds: buffer and latency afterwards, seconds played, s without playback.

    Nothing is downloaded meanwhile.
    """
    played_s = 0.0
    while played_s < seconds and buffer_s > 0.0:
        speed = playback_speed(buffer_s, latency_s, live.target_s, live.catch_up)
        step_s = min(TICK_S, seconds - played_s)
        if speed * step_s >= buffer_s:
            step_s = buffer_s / speed
            buffer_s = 0.0
        else:
            buffer_s -= speed * step_s
        latency_s += (1.0 - speed) * step_s
        played_s += step_s
    stall_s = max(seconds - played_s, 0.0)
    return buffer_s, latency_s + stall_s, played_s, stall_s


@compiled
def fetch_live(
    curve: Curve,
    first: int,
    last: int,
    place: tuple[int, float, float, float],
    size: float,
    noise: float,
    knobs: Knobs,
    live: Live,
    b: int,
) -> tuple[tuple[int, float, float, float], float, float, float]:
    """As `fetch`, for session `b` of `live`: the chunk is asked for once it has been produced.

    Unlike there, the trace goes on during the round trip too, as the live edge does. The last value
    is what latency and speed of playback take from the chunk's QoE.
    """
    row, time_s, done, buffer_s = place
    latency_s = live.latency_s[b]
    idle_s = max(knobs.chunk_s + buffer_s - latency_s, knobs.latency_s)
    row, time_s, done = wait(curve, first, last, row, time_s, idle_s + knobs.rtt_s)
    row, time_s, done, took_s = transfer(curve, first, last, row, time_s, done, size)
    took_s = (took_s + knobs.rtt_s) * noise
    media_s = buffer_s
    buffer_s, latency_s, played_s, stall_s = play_on(buffer_s, latency_s, idle_s + took_s, live)
    buffer_s += knobs.chunk_s
    if buffer_s > knobs.buffer_cap_s:
        # Who has so much is behind the target, and so as a rule plays no slower than 1.
        rest_s = buffer_s - knobs.buffer_cap_s
        buffer_s, latency_s, more_s, _ = play_on(buffer_s, latency_s, rest_s, live)
        row, time_s, done = wait(curve, first, last, row, time_s, rest_s)
        played_s += more_s
    media_s += knobs.chunk_s - buffer_s
    speed = media_s / played_s if played_s > 0.0 else 1.0
    if latency_s > live.target_s + live.skip_s:
        buffer_s = max(buffer_s - (latency_s - live.target_s), 0.0)
        latency_s = live.target_s
    live.latency_s[b] = live.seen[0, b] = latency_s
    live.seen[1, b] = speed
    weight = live.near if latency_s <= live.near_s else live.late
    cost = weight * latency_s + live.speed * abs(1.0 - speed)
    return (row, time_s, done, buffer_s), took_s, stall_s, cost


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
    live: Live | None,
) -> int:
    """Download chunk number `chunk` of every session and write what the players then see.

    `noise` may be empty; `live` is None for video on demand. Returns -1, or the first session whose
    level is not on the ladder; then nothing was changed.
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
        m, of_video = level[b], first_chunk[b] + chunk
        size = sizes[of_video, m]
        load, factor = size * unscale[b], noise[chunk, b] if noise.shape[0] > 0 else 1.0
        here, cost = (row[b], place[b, 0], place[b, 1], place[b, 2]), 0.0
        if live is None:  # numba leaves out the branch that does not count
            here, took_s, stall_s = fetch(curve, first[b], last[b], here, load, factor, knobs)
        else:
            of = curve, first[b], last[b], here, load, factor, knobs
            here, took_s, stall_s, cost = fetch_live(*of, live, b)
        row[b], place[b, 0], place[b, 1], place[b, 2] = here
        scalars[0, b], scalars[5, b] = rates[m], abs(rates[m] - rates[previous[b]]) * 1e-3
        reward = earned(quality, of_video, chunk, m, previous[b], stall_s, knobs) - cost
        previous[b], ahead = m, (of_video + 1) * rates.shape[0]
        push(throughput_mbps, b, size * 8e-6 / took_s)
        push(delay_s, b, took_s)
        for i in range(sizes_mb.shape[1]):
            sizes_mb[b, i] = table[ahead + i]
        scalars[1, b], scalars[2, b], scalars[3, b], scalars[4, b] = here[3], stall_s, left, reward
    return -1
