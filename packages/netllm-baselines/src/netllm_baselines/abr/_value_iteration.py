"""Compiled value iteration over buffer and last level; imported when Fugu first acts."""

import numpy as np
from jaxtyping import Float, Int
from netllm_sims.compilation import compiled
from numpy import ndarray

STEP_S = 1.0
"""Buffers between multiples of this are interpolated."""
_RARE = 1e-5


@compiled
def best_levels(
    chances: Float[ndarray, "batch ahead level time"],
    times_s: Float[ndarray, "time"],
    buffer_s: Float[ndarray, "batch"],
    level: Int[ndarray, "batch"],
    horizon: Int[ndarray, "batch"],
    quality: Float[ndarray, "batch chunk level"],
    terms: Float[ndarray, "5"],
) -> Int[ndarray, "batch"]:
    """Each session's next level with the best expectation; the lowest among equals.

    `quality`: of the last chunk and of those ahead. `terms`: latency in s, length of a chunk in s,
    buffer cap in s, rebuffering weight, smoothness weight.
    """
    best = np.empty(len(level), np.int64)
    grid_s = np.arange(np.ceil(terms[2] / STEP_S) + 1) * STEP_S
    for b in range(len(level)):
        values = np.zeros((len(grid_s), quality.shape[2]))
        for h in range(horizon[b] - 1, 0, -1):
            values = _earlier(chances[b, h], times_s, grid_s, values, quality[b, h : h + 2], terms)
        earned = _expected(chances[b, 0], times_s, buffer_s[b], values, quality[b, 1], terms)
        earned -= terms[4] * np.abs(quality[b, 1] - quality[b, 0, level[b]])
        best[b] = np.argmax(earned)
    return best


@compiled
def _earlier(
    chances: Float[ndarray, "level time"],
    times_s: Float[ndarray, "time"],
    grid_s: Float[ndarray, "buffer"],
    values: Float[ndarray, "buffer level"],
    quality: Float[ndarray, "2 level"],
    terms: Float[ndarray, "5"],
) -> Float[ndarray, "buffer level"]:
    """Value of each buffer and last level one chunk earlier."""
    found = np.empty_like(values)
    for i in range(len(grid_s)):
        earned = _expected(chances, times_s, grid_s[i], values, quality[1], terms)
        for last in range(quality.shape[1]):
            best = -np.inf
            for m in range(quality.shape[1]):
                best = max(best, earned[m] - terms[4] * abs(quality[1, m] - quality[0, last]))
            found[i, last] = best
    return found


@compiled
def _expected(
    chances: Float[ndarray, "level time"],
    times_s: Float[ndarray, "time"],
    buffer_s: float,
    values: Float[ndarray, "buffer level"],
    quality: Float[ndarray, "level"],
    terms: Float[ndarray, "5"],
) -> Float[ndarray, "level"]:
    """What each level earns from here on, but for the change to it."""
    earned = quality.copy()
    for m in range(len(quality)):
        for t in range(len(times_s)):
            if chances[m, t] < _RARE:
                continue
            away_s = times_s[t] + terms[0]
            stall_s = max(away_s - buffer_s, 0.0)
            at = min(max(buffer_s - away_s, 0.0) + terms[1], terms[2]) / STEP_S
            low = min(int(at), len(values) - 2)
            value = values[low, m] + (values[low + 1, m] - values[low, m]) * (at - low)
            earned[m] += chances[m, t] * (value - terms[3] * stall_s)
    return earned
