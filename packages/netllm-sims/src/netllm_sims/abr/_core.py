"""The compiled heart of the simulator; imported only when the first simulator is built.

A trace is a table of segments `(start s, bytes delivered before it, bytes/s, s/byte)` with one closing row
`(period s, bytes per period, 0, 0)`; the tables of all traces lie one after the other.
"""

from collections.abc import Callable
from math import ceil, floor
from typing import TypeVar, cast

import numba  # type: ignore[import-untyped]
from jaxtyping import Float, Int
from numpy import ndarray

F = TypeVar("F", bound=Callable[..., object])


def _compiled(function: F) -> F:
    return cast(F, numba.njit(cache=True, error_model="numpy")(function))


@_compiled
def seek(curve: ndarray, column: int, row: int, last: int, value: float) -> int:
    """Row at or after `row` whose segment holds `value`: galloping from `row`, then bisection.

    The caller guarantees `curve[row, column] <= value < curve[last, column]`.
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


@_compiled
def wait(
    curve: ndarray, first: int, last: int, row: int, time_s: float, seconds: float
) -> tuple[int, float, float]:
    """Place on the curve `seconds` later: its row, its time within the period, bytes up to there."""
    period_s = curve[last, 0]
    time_s += seconds
    if time_s >= period_s:
        time_s -= floor(time_s / period_s) * period_s
        row = first
        if time_s < 0.0 or time_s >= period_s:
            time_s = 0.0
    row = seek(curve, 0, row, last, time_s)
    return row, time_s, curve[row, 1] + curve[row, 2] * (time_s - curve[row, 0])


@_compiled
def transfer(
    curve: ndarray, first: int, last: int, row: int, time_s: float, done: float, size: float
) -> tuple[int, float, float, float]:
    """Place where `size` further bytes have arrived: row, time, bytes up to there, and seconds taken."""
    target = done + size
    laps = 0.0
    if target >= curve[last, 1]:
        total = curve[last, 1]
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


@_compiled
def play(
    chunk: int,
    level: Int[ndarray, "batch"],
    curve: Float[ndarray, "row 4"],
    first: Int[ndarray, "batch"],
    last: Int[ndarray, "batch"],
    unscale: Float[ndarray, "batch"],
    sizes_bytes: Float[ndarray, "chunk level"],
    rates_kbps: Float[ndarray, "level"],
    sizes_table_mb: Float[ndarray, "cell"],
    noise: Float[ndarray, "chunk batch"],
    knobs: Float[ndarray, "8"],
    row: Int[ndarray, "batch"],
    place: Float[ndarray, "batch 3"],
    previous: Int[ndarray, "batch"],
    throughput_mbps: Float[ndarray, "batch 6"],
    delay_s: Float[ndarray, "batch 6"],
    sizes_mb: Float[ndarray, "batch cell"],
    scalars: Float[ndarray, "6 batch"],
) -> int:
    """Download chunk number `chunk` of every session at `level` and write what the player then sees.

    `knobs`: rebuffering weight, smoothness weight, chunk s, round trip s, latency s, buffer cap s, drain step s,
    chunks left. `place`: trace time s, bytes delivered before it, playback buffer s. `scalars`: rate kbps,
    buffer s, stall s, chunks left, reward, change Mbps.

    Returns: -1, or the first session whose level lies outside the ladder (then nothing was changed).
    """
    for b in range(level.shape[0]):
        if level[b] < 0 or level[b] >= rates_kbps.shape[0]:
            return b
    heavy, smooth, chunk_s, rtt_s = knobs[0], knobs[1], knobs[2], knobs[3]
    latency_s, cap_s, drain_s, left = knobs[4], knobs[5], knobs[6], knobs[7]
    cells = sizes_mb.shape[1]
    ahead = (chunk + 1) * rates_kbps.shape[0]
    noisy = noise.shape[0] > 0
    past = delay_s.shape[1] - 1
    for b in range(level.shape[0]):
        choice = level[b]
        time_s, done, buffer_s = place[b, 0], place[b, 1], place[b, 2]
        at = row[b]
        if latency_s > 0.0:
            at, time_s, done = wait(curve, first[b], last[b], at, time_s, latency_s)
        size = sizes_bytes[chunk, choice]
        at, time_s, done, took_s = transfer(
            curve, first[b], last[b], at, time_s, done, size * unscale[b]
        )
        took_s += rtt_s
        if noisy:
            took_s *= noise[chunk, b]
        away_s = took_s + latency_s
        stall_s = max(away_s - buffer_s, 0.0)
        buffer_s = max(buffer_s - away_s, 0.0) + chunk_s
        if buffer_s > cap_s:
            rest_s = ceil((buffer_s - cap_s) / drain_s) * drain_s
            buffer_s -= rest_s
            at, time_s, done = wait(curve, first[b], last[b], at, time_s, rest_s)
        row[b] = at
        place[b, 0], place[b, 1], place[b, 2] = time_s, done, buffer_s
        rate = rates_kbps[choice]
        change = abs(rate - rates_kbps[previous[b]]) * 1e-3
        previous[b] = choice
        for i in range(past):
            throughput_mbps[b, i] = throughput_mbps[b, i + 1]
            delay_s[b, i] = delay_s[b, i + 1]
        throughput_mbps[b, past] = size * 8e-6 / took_s
        delay_s[b, past] = took_s
        for i in range(cells):
            sizes_mb[b, i] = sizes_table_mb[ahead + i]
        scalars[0, b] = rate
        scalars[1, b] = buffer_s
        scalars[2, b] = stall_s
        scalars[3, b] = left
        scalars[4, b] = rate * 1e-3 - heavy * stall_s - smooth * change
        scalars[5, b] = change
    return -1
