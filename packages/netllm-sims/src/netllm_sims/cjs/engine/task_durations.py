"""Durations of tasks, drawn from counters so that they do not depend on the order of draws.

Those of running tasks can be drawn anew, to simulate ahead without knowing when they end.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.cjs.engine.compilation import compiled, inner
from netllm_sims.cjs.engine.events import Heap, Times
from netllm_sims.cjs.engine.state_arrays import (
    BUSY,
    CROWD,
    LUCK,
    NOW,
    PENDING,
    REFERENCE,
    TARGET,
    WARMUP_MS,
    WAVE,
    State,
    World,
)  # fmt: skip

TRIES = 8


@inner
def mix(z: np.uint64) -> np.uint64:
    """Bits of a counter, well mixed (the finaliser of splitmix64)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inner
def uniforms(luck: int, job: int, stage: int, number: int) -> tuple[float, float]:
    """Two uniforms in [0, 1) of the number-th started task of a job's stage."""
    z = mix(np.uint64(luck) + np.uint64(job + 1) * np.uint64(0x9E3779B97F4A7C15))
    z = mix(z + ((np.uint64(stage) << np.uint64(32)) | np.uint64(number)))
    other = mix(z + np.uint64(0x9E3779B97F4A7C15))
    return (z >> np.uint64(11)) * 2.0**-53, (other >> np.uint64(11)) * 2.0**-53


@inner
def pick(world: World, luck: int, s: int, number: int, local: int, wave: int) -> float:
    """Duration in ms of a stage's task, for so many executors at its job."""
    row, j = world.row[s], world.job_of[s]
    u, v = uniforms(luck, j, s - world.first_stage[j], number)
    level = choose_level(world.options, world.levels, world.bracket, local, u)
    return take(world.cells, world.durations_ms, world.delays, row, wave, level, v)


@inner
def choose_level(
    options: Int[ndarray, "2"],
    levels: Int[ndarray, "8"],
    bracket: Int[ndarray, "executor_and_none 2"],
    local: int,
    u: float,
) -> int:
    """Index of the level that serves so many executors.

    Between two levels the reference takes the lower with probability (n - left) / (right - left).
    """
    level, right = bracket[local, 0], bracket[local, 1]
    if level == right:
        return level
    low, high = levels[level], levels[right]
    near = 1 + int(u * (high - low)) <= local - low
    return level if near == (options[REFERENCE] == 1) else right


@inner
def take(
    cells: Int[ndarray, "row 3 8 3"],
    durations_ms: Float[ndarray, "duration"],
    delays: Float[ndarray, "2"],
    row: int,
    wave: int,
    level: int,
    v: float,
) -> float:
    """Duration at the place `v` in [0, 1) of a list, with the warm-up delay if it asks for it."""
    index = cells[row, wave, level, 0] + int(v * cells[row, wave, level, 1])
    return durations_ms[index] + cells[row, wave, level, 2] * delays[WARMUP_MS]


@inner
def redraw(world: World, state: State, e: int, luck: int) -> float:
    """Duration in ms of an executor's running task, drawn anew given that it lasts until now.

    Level and place are drawn as for a new task until the duration is long enough; after some tries
    the last level stays (or the other serves, if it has no duration that is long enough) and the
    place is drawn among its long ones. If rounding leaves none, the task ends now.
    """
    executor = state.executor
    elapsed_ms = state.clock[NOW] - state.start_ms[e]
    s, wave, local = executor[e, TARGET], executor[e, WAVE], executor[e, CROWD]
    cells, known_ms, delays, row = world.cells, world.durations_ms, world.delays, world.row[s]
    slow, level = world.slowness[e], 0
    for number in range(TRIES):
        u, v = uniforms(luck, e, s, number)
        level = choose_level(world.options, world.levels, world.bracket, local, u)
        duration_ms = take(cells, known_ms, delays, row, wave, level, v) * slow
        if duration_ms >= elapsed_ms:
            return duration_ms
    _, v = uniforms(luck, e, s, TRIES)
    for turn in range(2):
        if turn == 1:
            level = world.bracket[local, 0] + world.bracket[local, 1] - level
        size = cells[row, wave, level, 1]
        long = 0
        for i in range(size):
            some_ms = take(cells, known_ms, delays, row, wave, level, (i + 0.5) / size) * slow
            long += some_ms >= elapsed_ms
        skip = int(v * long)
        for i in range(size):
            duration_ms = take(cells, known_ms, delays, row, wave, level, (i + 0.5) / size) * slow
            if duration_ms >= elapsed_ms:
                if skip == 0:
                    return duration_ms
                skip -= 1
    return elapsed_ms


@compiled
def redraw_running(world: World, state: State, luck: int, heap_ms: Times, heap: Heap) -> None:
    """Write the events ahead, in order, with ends of running tasks that follow from `luck`.

    Neither the order nor the times depend on the ends that `state` holds for them.
    """
    executor, ranks = state.executor, state.heap
    for i in range(state.g[PENDING]):
        rank, e = ranks[i, 0], ranks[i, 1]
        time_ms = state.heap_ms[i]
        if executor[e, BUSY] == 1:
            time_ms = max(state.clock[NOW], state.start_ms[e] + redraw(world, state, e, luck))
        k = i
        while k > 0 and (
            heap_ms[k - 1] > time_ms or (heap_ms[k - 1] == time_ms and heap[k - 1, 0] > rank)
        ):
            heap_ms[k], heap[k, 0], heap[k, 1] = heap_ms[k - 1], heap[k - 1, 0], heap[k - 1, 1]
            k -= 1
        heap_ms[k], heap[k, 0], heap[k, 1] = time_ms, rank, e


@inner
def use_draws(state: State, luck: int, heap_ms: Times, heap: Heap) -> None:
    """Let all durations of a copy follow from `luck`, those of running tasks as redrawn."""
    state.g[LUCK] = luck
    for i in range(state.g[PENDING]):
        state.heap_ms[i] = heap_ms[i]
        state.heap[i, 0], state.heap[i, 1] = heap[i, 0], heap[i, 1]
