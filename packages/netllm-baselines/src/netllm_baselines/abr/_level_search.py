"""Compiled searches over sequences of levels; imported when a planner first acts."""

import numpy as np
from jaxtyping import Float, Int
from netllm_sims.compilation import compiled
from numpy import ndarray

TIE = 1e-9
"""Sequences whose values differ by less are equally good."""


@compiled
def plan(
    rate_mbps: Float[ndarray, "batch"],
    sizes_mb: Float[ndarray, "batch chunk level"],
    buffer_s: Float[ndarray, "batch"],
    level: Int[ndarray, "batch"],
    horizon: Int[ndarray, "batch"],
    quality: Float[ndarray, "batch chunk level"],
    terms: Float[ndarray, "5"],
) -> Int[ndarray, "batch"]:
    """First level of each session's best sequence at a constant rate; the lowest among equals.

    `quality`: of the last chunk and of those ahead. `terms`: overhead of a request in s, length of
    a chunk in s, buffer cap in s, rebuffering weight, smoothness weight.
    """
    best = np.empty(len(level), np.int64)
    for b in range(len(level)):
        seconds = sizes_mb[b, : horizon[b]] * (8 / rate_mbps[b]) + terms[0]
        best[b] = _search(seconds, buffer_s[b], level[b], quality[b], terms)
    return best


@compiled
def _search(
    seconds: Float[ndarray, "chunk level"],
    buffer_s: float,
    level: int,
    quality: Float[ndarray, "chunk level"],
    terms: Float[ndarray, "5"],
) -> int:
    chunk_s, cap_s, rebuffering, smoothness = terms[1], terms[2], terms[3], terms[4]
    depths, levels = seconds.shape
    top = quality.max()
    choice = np.zeros(depths, np.int64)
    value = np.zeros(depths + 1)
    buffers = np.empty(depths + 1)
    buffers[0] = buffer_s
    best, first, depth = -np.inf, 0, 0
    choice[0] = -1
    while depth >= 0:
        choice[depth] += 1
        m = choice[depth]
        if m == levels:
            depth -= 1
            continue
        before = quality[depth, choice[depth - 1] if depth > 0 else level]
        worth = quality[depth + 1, m]
        stall_s = max(seconds[depth, m] - buffers[depth], 0.0)
        gain = worth - rebuffering * stall_s - smoothness * abs(worth - before)
        reached = value[depth] + gain
        # No later chunk can add more than the best quality.
        if reached + top * (depths - depth - 1) <= best + TIE:
            continue
        if depth == depths - 1:
            best, first = reached, choice[0]
            continue
        value[depth + 1] = reached
        buffers[depth + 1] = min(max(buffers[depth] - seconds[depth, m], 0.0) + chunk_s, cap_s)
        depth += 1
        choice[depth] = -1
    return first


@compiled
def plan_gradual(
    sequences: Int[ndarray, "sequence chunk"],
    seconds: Float[ndarray, "chunk level"],
    buffer_s: float,
    level: int,
    ladder_kbps: Float[ndarray, "level"],
    terms: Float[ndarray, "2"],
) -> int:
    """First level of the best sequence as NetLLM adds it up; the last one among equals.

    `terms`: length of a chunk in s, rebuffering weight.
    """
    best, first = -1e8, 0
    for i in range(len(sequences)):
        stall_s, rates, changes = 0.0, 0.0, 0.0
        ahead_s, before = buffer_s, level
        for j in range(sequences.shape[1]):
            m = sequences[i, j]
            if ahead_s < seconds[j, m]:
                stall_s += seconds[j, m] - ahead_s
                ahead_s = 0.0
            else:
                ahead_s -= seconds[j, m]
            ahead_s += terms[0]
            rates += ladder_kbps[m]
            changes += abs(ladder_kbps[m] - ladder_kbps[before])
            before = m
        value = rates / 1000 - terms[1] * stall_s - changes / 1000
        if value >= best:
            best, first = value, sequences[i, 0]
    return first


@compiled
def steer(
    rate_mbps: Float[ndarray, "batch"],
    buffer_s: Float[ndarray, "batch"],
    level: Int[ndarray, "batch"],
    horizon: int,
    ladder_mbps: Float[ndarray, "level"],
    distortion: Float[ndarray, "level"],
    terms: Float[ndarray, "6"],
) -> Int[ndarray, "batch"]:
    """First level of each session's cheapest plan that never falls or never rises.

    Of equally cheap ones the falling counts, then the one that stays closer; 0 where every plan
    runs the buffer dry. `terms`: length of a step in s, buffer cap in s, target buffer in s, weight
    of the buffer, weight of changes, share of the buffer's cost above its target.
    """
    best = np.empty(len(level), np.int64)
    for b in range(len(level)):
        gained_s = terms[0] * rate_mbps[b] / ladder_mbps
        falling, cost = _steer(-1, gained_s, buffer_s[b], level[b], horizon, distortion, terms)
        rising, other = _steer(1, gained_s, buffer_s[b], level[b], horizon, distortion, terms)
        best[b] = max(rising if other < cost - TIE else falling, 0)
    return best


@compiled
def _steer(
    direction: int,
    gained_s: Float[ndarray, "level"],
    buffer_s: float,
    level: int,
    horizon: int,
    distortion: Float[ndarray, "level"],
    terms: Float[ndarray, "6"],
) -> tuple[int, float]:
    """First level, -1 without any, and cost of the cheapest plan that only moves in a direction."""
    choice = np.empty(horizon, np.int64)
    cost, buffers = np.zeros(horizon + 1), np.full(horizon + 1, buffer_s)
    best, first, depth = np.inf, -1, 0
    choice[0] = level - direction
    while depth >= 0:
        choice[depth] += direction
        m = choice[depth]
        if m < 0 or m == len(gained_s):
            depth -= 1
            continue
        ahead_s = min(buffers[depth] + gained_s[m] - terms[0], terms[1])
        change = distortion[m] - distortion[choice[depth - 1] if depth > 0 else level]
        off = (1 - ahead_s / terms[2]) ** 2 * (1.0 if ahead_s <= terms[2] else terms[5])
        spent = distortion[m] * gained_s[m] / terms[0] + terms[3] * off + terms[4] * change**2
        reached = cost[depth] + spent
        # No cost is negative.
        if ahead_s < 0 or reached >= best - TIE:
            continue
        if depth == horizon - 1:
            best, first = reached, choice[0]
            continue
        depth += 1
        cost[depth], buffers[depth], choice[depth] = reached, ahead_s, m - direction
    return first, best
