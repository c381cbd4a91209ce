"""Copies of a state: of all, to branch an episode, or without the jobs that are still to come.

A copy of the second kind stands where the episode stands, but no other job ever arrives in it; with
`task_durations.redraw_running` it simulates ahead without knowing the future.
"""

from jaxtyping import Int, Shaped
from numpy import ndarray

from netllm_sims.cjs.engine.compilation import compiled, inner
from netllm_sims.cjs.engine.executor_pools import job_of_pool
from netllm_sims.cjs.engine.state_arrays import (
    ACTIVE,
    ARRIVED,
    AT_JOB,
    AT_POOL,
    COUNT,
    MASK,
    OWNER,
    SCHEDULABLE,
    SETS,
    TARGET,
    TO,
    State,
    World,
)  # fmt: skip

Jobs = Int[ndarray, "job"]


@inner
def fill(target: Shaped[ndarray, "row"], source: Shaped[ndarray, "row"]) -> None:
    """Copy values."""
    for i in range(source.shape[0]):
        target[i] = source[i]


@inner
def fill_rows(target: Shaped[ndarray, "row cell"], source: Shaped[ndarray, "row cell"]) -> None:
    """Copy rows of values."""
    for i in range(source.shape[0]):
        for k in range(source.shape[1]):
            target[i, k] = source[i, k]


@compiled
def copy(source: State, target: State) -> None:
    """Make `target`, of the same sizes, go on from where `source` stands.

    Recorded durations and logs stay its own.
    """
    fill(target.g, source.g)
    fill(target.clock, source.clock)
    fill(target.done_ms, source.done_ms)
    fill(target.recent_ms, source.recent_ms)
    fill(target.heap_ms, source.heap_ms)
    fill(target.start_ms, source.start_ms)
    for i in range(source.g[ACTIVE]):
        target.active[i] = source.active[i]
    for i in range(source.g[SCHEDULABLE]):
        target.schedulable[i] = source.schedulable[i]
    fill_rows(target.job, source.job)
    fill_rows(target.stage, source.stage)
    fill_rows(target.executor, source.executor)
    fill_rows(target.heap, source.heap)
    fill_rows(target.node, source.node)
    fill_rows(target.pool, source.pool)
    for k in range(source.g[SETS]):
        for i in range(4):
            target.sets[k, i] = source.sets[k, i]
        for i in range(source.sets[k, MASK] + 1):
            target.table[k, i] = source.table[k, i]


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
        if executor[e, AT_POOL] > 0:
            count = include(jobs, count, job_of_pool(world, executor[e, AT_POOL]))
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
