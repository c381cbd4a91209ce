"""The compiled heart of the simulator, imported at its first use since numba is slow to import.

Events and rounds of decisions by the rules of the reference (`spark_sched_sim`). An executor has at
most one event ahead, the end of its task or its arrival at a job.
"""

from netllm_sims.cjs.engine.commitments import (
    commit,
    committable,
    fulfil,
    go,
    is_ready,
    retire,
    shift_demand,
)
from netllm_sims.cjs.engine.compilation import compiled, inner
from netllm_sims.cjs.engine.events import EXECUTOR_EVENT, JOB_EVENT, TASK_EVENT, pop, record
from netllm_sims.cjs.engine.executor_pools import close_set, enter, idle_members
from netllm_sims.cjs.engine.next_tasks import work_on
from netllm_sims.cjs.engine.state_arrays import (
    ACTIVE,
    ARRIVED,
    AT_JOB,
    AT_POOL,
    BUSY,
    CHOSEN,
    COUNT,
    DECISIONS,
    DEMAND,
    EXECUTORS,
    FINISHED,
    HEAD,
    JOB_MS,
    LAST,
    LOCAL,
    MOVING,
    NEXT,
    NOW,
    OPEN,
    PENDING,
    PROMISED,
    READY,
    RESCUED,
    ROUND,
    RUNNING,
    SCHEDULABLE,
    SEEN,
    SET,
    SOURCE,
    SUPPLY,
    TARGET,
    TO,
    UNFINISHED_PARENTS,
    USED,
    State,
    World,
)  # fmt: skip

VALID, WRONG_STAGE, WRONG_COUNT, NO_WAITING, STUCK = range(5)


@compiled
def begin(world: World, state: State) -> None:
    """Run a fresh state to its first decision."""
    jobs = world.arrival_ms.shape[0]
    for e in range(state.executor.shape[0]):
        enter(state, e, 0)
    while state.g[ARRIVED] < jobs and world.arrival_ms[state.g[ARRIVED]] <= 0.0:
        arrive(state, state.g[ARRIVED])
    if committable(state) == 0 or find_schedulable(world, state) == 0:
        advance(world, state)


@inner
def arrive(state: State, j: int) -> None:
    """A job arrives; if executors belong to none, they are to be committed."""
    g = state.g
    record(state, JOB_EVENT, j, -1)
    state.g[SEEN] += 1
    state.active[g[ACTIVE]] = j
    g[ACTIVE] += 1
    g[ARRIVED] += 1
    common = state.pool[0, SET]
    if common >= 0 and state.sets[common, USED] > 0:
        g[SOURCE] = 0


@inner
def settle(world: World, state: State, e: int) -> None:
    """An executor arrives at the job that it was sent to."""
    s = state.executor[e, TARGET]
    record(state, EXECUTOR_EVENT, e, s)
    state.g[SEEN] += 1
    j = world.job_of[s]
    state.job[j, LOCAL] += 1
    state.executor[e, AT_JOB] = j
    state.stage[s, MOVING] -= 1
    shift_demand(world, state, s, 1)
    enter(state, e, 1 + j)
    go(world, state, e, s)


@inner
def complete(world: World, state: State, e: int) -> None:
    """A stage's last unstarted task is long gone: the executor follows a commitment or rests."""
    stage, job = state.stage, state.job
    s = state.executor[e, TARGET]
    record(state, TASK_EVENT, e, s)
    state.g[SEEN] += 1
    stage[s, RUNNING] -= 1
    pop(state.g, state.heap_ms, state.heap)
    state.executor[e, BUSY] = 0
    j = world.job_of[s]
    unlocked = False
    if stage[s, RUNNING] == 0:
        job[j, OPEN] -= 1
        for i in range(world.first_child[s], world.first_child[s + 1]):
            stage[world.child[i], UNFINISHED_PARENTS] -= 1
            unlocked |= stage[world.child[i], UNFINISHED_PARENTS] == 0
        if job[j, OPEN] == 0:
            finish(world, state, j)
    p = 1 + world.arrival_ms.shape[0] + s
    committed = state.pool[p, HEAD] >= 0
    if committed:
        fulfil(world, state, e, state.node[state.pool[p, HEAD], TO])
    else:
        state.executor[e, LAST] = -1
        if unlocked:
            retire(world, state, e)
    if unlocked:
        state.g[SOURCE] = 1 + j
    elif not committed:
        state.g[SOURCE] = p


@inner
def finish(world: World, state: State, j: int) -> None:
    """A job is done; executors that wait in its pool belong to none now."""
    g, active = state.g, state.active
    for i in range(idle_members(state, 1 + j)):
        retire(world, state, state.spare[1, i])
    close_set(state, 1 + j)
    at = 0
    while active[at] != j:
        at += 1
    for i in range(at, g[ACTIVE] - 1):
        active[i] = active[i + 1]
    g[ACTIVE] -= 1
    g[FINISHED] += 1
    state.done_ms[j] = state.clock[NOW]


@inner
def advance(world: World, state: State) -> int:
    """Run events until executors and stages wait for a decision: number of stages, 0 at the end."""
    g, clock = state.g, state.clock
    jobs = world.arrival_ms.shape[0]
    while g[PENDING] > 0 or g[ARRIVED] < jobs:
        work_on(world, state)
        j = g[ARRIVED]
        arrival = j < jobs and (g[PENDING] == 0 or world.arrival_ms[j] <= state.heap_ms[0])
        time_ms = world.arrival_ms[j] if arrival else state.heap_ms[0]
        clock[JOB_MS] += g[ACTIVE] * (time_ms - clock[NOW])
        clock[NOW] = time_ms
        if arrival:
            arrive(state, j)
        else:
            e = state.heap[0, 1]
            if state.executor[e, BUSY] == 1:
                complete(world, state, e)
            else:
                pop(state.g, state.heap_ms, state.heap)
                settle(world, state, e)
        if g[SOURCE] < 0 or committable(state) == 0:
            continue
        count = find_schedulable(world, state)
        if count > 0:
            return count
        for i in range(idle_members(state, g[SOURCE])):
            retire(world, state, state.spare[1, i])
        g[SOURCE] = -1
    return rescue(world, state)


@inner
def rescue(world: World, state: State) -> int:
    """Open a round where executors were left idle that no event would wake: number of stages.

    The reference stops for ever there: a job may arrive while all executors wait in other jobs'
    pools, or the last running executor may have been committed to nothing in advance.
    """
    for e in range(state.executor.shape[0]):
        state.g[SOURCE] = state.executor[e, AT_POOL]
        count = find_schedulable(world, state)
        if count > 0:
            state.g[RESCUED] += 1
            return count
    state.g[SOURCE] = -1
    state.g[SCHEDULABLE] = 0
    return 0


@inner
def find_schedulable(world: World, state: State) -> int:
    """List the ready stages of the source's job and of the jobs with room; how many there are."""
    g, job = state.g, state.job
    source = source_job(world, state)
    count = 0
    for i in range(g[ACTIVE]):
        j = state.active[i]
        if job[j, READY] == 0 or (j != source and job[j, SUPPLY] >= world.options[EXECUTORS]):
            continue
        for s in range(world.first_stage[j], world.first_stage[j + 1]):
            if is_ready(state, s):
                state.schedulable[count] = s
                count += 1
    g[SCHEDULABLE] = count
    return count


@inner
def source_job(world: World, state: State) -> int:
    """Job whose executors are to be committed, -1 if they belong to none."""
    p = state.g[SOURCE]
    jobs = world.arrival_ms.shape[0]
    if p <= jobs:
        return p - 1 if p > 0 else -1
    return world.job_of[p - 1 - jobs]


@compiled
def can_wait(world: World, state: State) -> bool:
    """Whether anything will happen if no (further) stage is chosen now."""
    g = state.g
    return (
        g[PENDING] > 0
        or g[ARRIVED] < world.arrival_ms.shape[0]
        or state.pool[g[SOURCE], PROMISED] > 0
    )


@compiled
def check(world: World, state: State, s: int, count: int) -> int:
    """Whether the stage (-1 for none) may get so many executors: VALID, or what is wrong."""
    if s < 0:
        return VALID if s == -1 and can_wait(world, state) else NO_WAITING
    if s >= state.stage.shape[0]:
        return WRONG_STAGE
    listed = False
    for i in range(state.g[SCHEDULABLE]):
        listed |= state.schedulable[i] == s
    if not listed:
        return WRONG_STAGE
    return VALID if 1 <= count <= committable(state) else WRONG_COUNT


@compiled
def decide(world: World, state: State, s: int, count: int) -> int:
    """Commit executors to a stage, or the rest to none (-1), and run to the next decision.

    Returns the number of schedulable stages, 0 at the end of the episode.
    """
    state.g[DECISIONS] += 1
    if s >= 0:
        commit(world, state, s, min(count, state.stage[s, DEMAND]))
        state.stage[s, CHOSEN] = state.g[ROUND]
        if committable(state) > 0 and find_schedulable(world, state) > 0:
            return state.g[SCHEDULABLE]
    close_round(world, state)
    return advance(world, state)


@inner
def close_round(world: World, state: State) -> None:
    """Commit the rest to the common pool and let idle executors follow the commitments."""
    g, node, plan = state.g, state.node, state.plan
    rest = committable(state)
    if rest > 0:
        commit(world, state, -1, rest)
    p = g[SOURCE]
    plans = 0
    k = state.pool[p, HEAD]
    while k >= 0:
        plan[plans, 0], plan[plans, 1] = node[k, TO], node[k, COUNT]
        plans += 1
        k = node[k, NEXT]
    idle = idle_members(state, p)
    at = 0
    for i in range(plans):
        for _ in range(min(plan[i, 1], idle - at)):
            fulfil(world, state, state.spare[1, at], plan[i, 0])
            at += 1
    g[SOURCE] = -1
    g[ROUND] += 1
