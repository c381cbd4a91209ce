"""Compiled search for the best session over a known trace.

A state after k chunks is (trace time, quality so far, stalled time so far, last level). The buffer
follows from it: playback runs dry at `deadline + stalled`, where the deadline depends on k alone,
because waiting at a full buffer moves time and buffer alike.
"""

import numpy as np
from jaxtyping import Float, Int
from netllm_sims.compilation import compiled
from numpy import ndarray

TIE = 1e-9


@compiled
def finish(
    curve: Float[ndarray, "row 4"], time_s: Float[ndarray, "state"], size: float
) -> Float[ndarray, "state"]:
    """When a download of `size` bytes ends that begins at each of the rising times."""
    end_s = np.empty(len(time_s))
    last = len(curve) - 1
    period_s, total = curve[last, 0], curve[last, 1]
    row, lap_s, lap_bytes = 0, 0.0, 0.0
    end, end_lap_s, end_lap_bytes = 0, 0.0, 0.0
    for i in range(len(time_s)):
        while lap_s + curve[row + 1, 0] <= time_s[i]:
            row += 1
            if row == last:
                row, lap_s, lap_bytes = 0, lap_s + period_s, lap_bytes + total
        done = lap_bytes + curve[row, 1] + (time_s[i] - lap_s - curve[row, 0]) * curve[row, 2]
        while end_lap_bytes + curve[end + 1, 1] <= done + size:
            end += 1
            if end == last:
                end, end_lap_s, end_lap_bytes = 0, end_lap_s + period_s, end_lap_bytes + total
        rest = done + size - end_lap_bytes - curve[end, 1]
        end_s[i] = end_lap_s + curve[end, 0] + rest * curve[end, 3]
    return end_s


@compiled
def front(
    time_s: Float[ndarray, "state"],
    quality: Float[ndarray, "state"],
    stalled_s: Float[ndarray, "state"],
    rebuffering: float,
    unit: float,
) -> Int[ndarray, "kept"]:
    """States, by rising time, that no other one beats in time, value and quality at once.

    One with less stalled time can catch up by stalling, at the cost that the value of the other has
    paid already; so quality (value plus what stalling cost) is the third measure. Qualities count
    as equal when they round to the same multiple of `unit`.
    """
    order = np.arange(len(time_s))
    if np.any(time_s[1:] < time_s[:-1]):
        order = np.argsort(time_s)
    # Rank of each quality from the top, 1 for the highest.
    rank = 1 + np.rint((quality.max() - quality) / unit).astype(np.int64)
    # best[i]: highest value over a range of ranks that ends at i (a Fenwick tree).
    best = np.full(rank.max() + 1, -np.inf)
    kept = 0
    for state in order:
        value = quality[state] - rebuffering * stalled_s[state]
        at = rank[state]
        beaten = False
        while at > 0 and not beaten:
            beaten = best[at] >= value - TIE
            at -= at & -at
        if beaten:
            continue
        at = rank[state]
        while at < len(best):
            best[at] = max(best[at], value)
            at += at & -at
        order[kept] = state
        kept += 1
    return order[:kept]


@compiled
def search(
    curve: Float[ndarray, "row 4"],
    time_s: float,
    buffer_s: float,
    level: int,
    sizes_bytes: Float[ndarray, "chunk level"],
    gains: Float[ndarray, "chunk level level"],
    terms: Float[ndarray, "6"],
    unit: float,
    width: int,
) -> Int[ndarray, "chunk"]:
    """Levels of the best session from here to the end.

    `gains[k, m, n]`: quality of chunk k at level n after one at level m. `terms`: chunk s, round
    trip s, latency s, buffer cap s, drain step s, rebuffering weight. `width`: at most so many
    states are kept per chunk, those of highest value.
    """
    chunk_s, rtt_s, latency_s, rebuffering = terms[0], terms[1], terms[2], terms[5]
    times, quality, stalled = np.array([time_s]), np.zeros(1), np.zeros(1)
    last = np.array([level])
    parents, levels = [np.zeros(1, np.int64)], [last]
    for k in range(len(sizes_bytes)):
        deadline_s = time_s + buffer_s + k * (chunk_s - rtt_s)
        count, room = 0, len(times) * gains.shape[2]
        new = np.empty((3, room))
        origin, choice = np.empty(room, np.int64), np.empty(room, np.int64)
        for m in range(gains.shape[2]):
            ends = finish(curve, times + latency_s, sizes_bytes[k, m])
            stalls = stalled + np.maximum(ends + rtt_s - deadline_s - stalled, 0.0)
            _pause(ends, deadline_s + chunk_s - rtt_s + stalls, terms[3], terms[4])
            reached = quality + gains[k, :, m][last]
            for state in front(ends, reached, stalls, rebuffering, unit):
                new[0, count], new[1, count] = ends[state], reached[state]
                new[2, count] = stalls[state]
                origin[count], choice[count] = state, m
                count += 1
        kept = np.argsort(new[0, :count])
        if count > width:
            value = new[1, kept] - rebuffering * new[2, kept]
            kept = kept[np.sort(np.argsort(-value)[:width])]
        times, quality, stalled, last = new[0, kept], new[1, kept], new[2, kept], choice[kept]
        parents.append(origin[kept])
        levels.append(last)
    return _walk_back(parents, levels, int(np.argmax(quality - rebuffering * stalled)))


@compiled
def _pause(
    ends_s: Float[ndarray, "state"], dry_s: Float[ndarray, "state"], cap_s: float, drain_s: float
) -> None:
    """Move the times on, in steps, where the buffer exceeds its cap."""
    for i in range(len(ends_s)):
        over_s = dry_s[i] - ends_s[i] - cap_s
        if over_s > 0.0:
            ends_s[i] += np.ceil(over_s / drain_s) * drain_s


@compiled
def _walk_back(parents: list[ndarray], levels: list[ndarray], state: int) -> Int[ndarray, "chunk"]:
    path = np.empty(len(levels) - 1, np.int64)
    for k in range(len(levels) - 1, 0, -1):
        path[k - 1] = levels[k][state]
        state = parents[k][state]
    return path
