"""What is needed to simulate ahead without knowing the future: cheap copies, running tasks redrawn.

A copy stands where the episode stands, but the jobs that are still to come never arrive in it, and
what its tasks last is drawn anew.
"""

from jaxtyping import Int, Shaped
from numpy import ndarray

from netllm_sims.cjs.engine.compilation import compiled, inner
from netllm_sims.cjs.engine.copying import fill, fill_rows
from netllm_sims.cjs.engine.event_heap import Heap, Times
from netllm_sims.cjs.engine.executor_pools import job_of_pool
from netllm_sims.cjs.engine.state_arrays import (
    ACTIVE,
    ARRIVED,
    AT_JOB,
    BUSY,
    COUNT,
    CROWD,
    LUCK,
    MASK,
    NOW,
    OWNER,
    PENDING,
    PLACE,
    SCHEDULABLE,
    SETS,
    TARGET,
    TO,
    WAVE,
    State,
    World,
)
from netllm_sims.cjs.engine.task_durations import choose_level, take, uniforms

Jobs = Int[ndarray, "job"]
TRIES = 8


@inner
def include(jobs: Jobs, count: int, j: int) -> int:
    """Add a job to a list unless it is there or is none (-1): the list's new length."""
    if j < 0:
        return count
    for i in range(count):
        if jobs[i] == j:
            return count
    jobs[count] = j
    return count + 1


@compiled
def present(world: World, state: State, jobs: Jobs) -> int:
    """List the active jobs and the finished ones that executors have not left: how many."""
    count = state.g[ACTIVE]
    for i in range(count):
        jobs[i] = state.active[i]
    executor, node = state.executor, state.node
    for e in range(executor.shape[0]):
        count = include(jobs, count, executor[e, AT_JOB])
        if executor[e, PLACE] > 0:
            count = include(jobs, count, job_of_pool(world, executor[e, PLACE]))
        if executor[e, TARGET] >= 0:
            count = include(jobs, count, world.job_of[executor[e, TARGET]])
        if node[e, COUNT] > 0 and node[e, TO] >= 0:
            count = include(jobs, count, world.job_of[node[e, TO]])
    return count


@inner
def copy_rows(
    target: Shaped[ndarray, "row cell"], source: Shaped[ndarray, "row cell"], first: int, end: int
) -> None:
    """Copy some rows."""
    for i in range(first, end):
        for k in range(source.shape[1]):
            target[i, k] = source[i, k]


@inner
def copy_job(world: World, source: State, target: State, j: int) -> None:
    """Copy a job, its stages and their pools."""
    pools = 1 + world.arrival_ms.shape[0]
    first, end = world.first_stage[j], world.first_stage[j + 1]
    copy_rows(target.job, source.job, j, j + 1)
    copy_rows(target.pool, source.pool, 1 + j, 2 + j)
    copy_rows(target.stage, source.stage, first, end)
    copy_rows(target.pool, source.pool, pools + first, pools + end)
    for s in range(first, end):
        target.recent_ms[s] = source.recent_ms[s]


@compiled
def copy_present(world: World, source: State, target: State, jobs: Jobs, count: int) -> None:
    """Make `target` go on from where `source` stands, for the first `count` of the jobs only.

    With the jobs of `present`, the active ones go on as they would if no other ever arrived.
    Recorded durations and logs stay its own.
    """
    fill(target.g, source.g)
    fill(target.clock, source.clock)
    fill(target.heap_ms, source.heap_ms)
    fill(target.start_ms, source.start_ms)
    for i in range(source.g[ACTIVE]):
        target.active[i] = source.active[i]
    for i in range(source.g[SCHEDULABLE]):
        target.schedulable[i] = source.schedulable[i]
    fill_rows(target.executor, source.executor)
    fill_rows(target.heap, source.heap)
    fill_rows(target.node, source.node)
    copy_rows(target.pool, source.pool, 0, 1)
    for i in range(count):
        copy_job(world, source, target, jobs[i])
    copy_rows(target.sets, source.sets, 0, source.g[SETS])
    for k in range(1, source.g[SETS]):
        if source.sets[k, OWNER] >= 0:
            for i in range(source.sets[k, MASK] + 1):
                target.table[k, i] = source.table[k, i]
    target.g[ARRIVED] = world.arrival_ms.shape[0]


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
    level = 0
    for number in range(TRIES):
        u, v = uniforms(luck, e, s, number)
        level = choose_level(world.options, world.levels, world.bracket, local, u)
        duration_ms = take(cells, known_ms, delays, row, wave, level, v)
        if duration_ms >= elapsed_ms:
            return duration_ms
    _, v = uniforms(luck, e, s, TRIES)
    for turn in range(2):
        if turn == 1:
            level = world.bracket[local, 0] + world.bracket[local, 1] - level
        size = cells[row, wave, level, 1]
        long = 0
        for i in range(size):
            long += take(cells, known_ms, delays, row, wave, level, (i + 0.5) / size) >= elapsed_ms
        skip = int(v * long)
        for i in range(size):
            duration_ms = take(cells, known_ms, delays, row, wave, level, (i + 0.5) / size)
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
