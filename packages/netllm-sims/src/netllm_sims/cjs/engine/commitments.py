"""Demand, commitments, and where an executor goes that is free."""

from netllm_sims.cjs.dag import FIRST, FRESH, REST
from netllm_sims.cjs.engine.compilation import compiled, inner
from netllm_sims.cjs.engine.events import push, record_task
from netllm_sims.cjs.engine.executor_pools import close_set, enter, job_of_pool, leave
from netllm_sims.cjs.engine.state_arrays import (
    ACTIVE,
    AT_JOB,
    AT_POOL,
    BUSY,
    BUSY_MS,
    CHOSEN,
    COMMITTED,
    COUNT,
    CROWD,
    DEMAND,
    EXECUTORS,
    FREE,
    HEAD,
    LAST,
    LOCAL,
    LUCK,
    MOVING,
    MOVING_MS,
    NEXT,
    NOW,
    OPEN,
    PROMISED,
    READY,
    ROUND,
    RUNNING,
    SENT,
    SET,
    SOURCE,
    STARTED,
    SUPPLY,
    TAIL,
    TAKEN,
    TARGET,
    THIRSTY_PARENTS,
    TO,
    UNFINISHED_PARENTS,
    UNSTARTED,
    USED,
    WAVE,
    State,
    World,
)  # fmt: skip
from netllm_sims.cjs.engine.task_durations import pick


@inner
def shift_demand(world: World, state: State, s: int, change: int) -> None:
    """Change a stage's demand; its children are ready only while no parent has any."""
    stage, job = state.stage, state.job
    before = stage[s, DEMAND]
    after = before + change
    stage[s, DEMAND] = after
    if (before > 0) == (after > 0):
        return
    j = world.job_of[s]
    step = 1 if after > 0 else -1
    if stage[s, THIRSTY_PARENTS] == 0:
        job[j, READY] += step
    for i in range(world.first_child[s], world.first_child[s + 1]):
        c = world.child[i]
        was_ready = stage[c, THIRSTY_PARENTS] == 0
        stage[c, THIRSTY_PARENTS] += step
        if stage[c, DEMAND] > 0:
            job[j, READY] += (stage[c, THIRSTY_PARENTS] == 0) - was_ready


@compiled
def committable(state: State) -> int:
    """Executors of the source pool that are not committed yet, busy ones included."""
    p = state.g[SOURCE]
    if p < 0 or state.pool[p, SET] < 0:
        return 0
    return state.sets[state.pool[p, SET], USED] - state.pool[p, PROMISED]


@inner
def commit(world: World, state: State, s: int, count: int) -> None:
    """Commit executors of the source pool to a stage, or to the common pool (-1)."""
    g, pool, node, p = state.g, state.pool, state.node, state.g[SOURCE]
    k = pool[p, HEAD]
    while k >= 0 and node[k, TO] != s:
        k = node[k, NEXT]
    if k < 0:
        k = g[FREE]
        g[FREE] = node[k, NEXT]
        node[k, TO], node[k, COUNT], node[k, NEXT] = s, 0, -1
        if pool[p, HEAD] < 0:
            pool[p, HEAD] = k
        else:
            node[pool[p, TAIL], NEXT] = k
        pool[p, TAIL] = k
    node[k, COUNT] += count
    pool[p, PROMISED] += count
    if s >= 0:
        state.stage[s, COMMITTED] += count
        shift_demand(world, state, s, -count)
        if world.job_of[s] != job_of_pool(world, p):
            state.job[world.job_of[s], SUPPLY] += count


@inner
def fulfil(world: World, state: State, e: int, s: int) -> None:
    """Take one commitment off the executor's pool and follow it."""
    g, pool, node, p = state.g, state.pool, state.node, state.executor[e, AT_POOL]
    before, k = -1, pool[p, HEAD]
    while node[k, TO] != s:
        before, k = k, node[k, NEXT]
    node[k, COUNT] -= 1
    pool[p, PROMISED] -= 1
    if node[k, COUNT] == 0:
        if before < 0:
            pool[p, HEAD] = node[k, NEXT]
        else:
            node[before, NEXT] = node[k, NEXT]
        if pool[p, TAIL] == k:
            pool[p, TAIL] = before
        node[k, NEXT] = g[FREE]
        g[FREE] = k
    if s < 0:
        retire(world, state, e)
        return
    state.stage[s, COMMITTED] -= 1
    shift_demand(world, state, s, 1)
    if world.job_of[s] != job_of_pool(world, p):
        state.job[world.job_of[s], SUPPLY] -= 1
    go(world, state, e, s)


@inner
def detach(state: State, e: int) -> None:
    """The executor is no longer local to its job."""
    executor = state.executor
    if executor[e, AT_JOB] >= 0:
        state.job[executor[e, AT_JOB], LOCAL] -= 1
    executor[e, AT_JOB] = executor[e, LAST] = -1


@inner
def retire(world: World, state: State, e: int) -> None:
    """Move an idle executor from a stage to its job, or from a job without tasks to the common."""
    p = state.executor[e, AT_POOL]
    j = job_of_pool(world, p)
    if j < 0:
        return
    stages = world.first_stage[j + 1] - world.first_stage[j]
    if state.job[j, TAKEN] == stages:
        leave(world, state, e)
        enter(state, e, 0)
        detach(state, e)
        if state.job[j, OPEN] == 0:
            close_set(state, 1 + j)
    elif p != 1 + j:
        leave(world, state, e)
        enter(state, e, 1 + j)


@inner
def execute(world: World, state: State, e: int, s: int) -> None:
    """Start a stage's next task on a local executor."""
    g, stage, executor, job = state.g, state.stage, state.executor, state.job
    j = world.job_of[s]
    number = world.tasks[s] - stage[s, UNSTARTED]
    stage[s, UNSTARTED] -= 1
    stage[s, RUNNING] += 1
    if stage[s, UNSTARTED] == 0:
        job[j, TAKEN] += 1
    shift_demand(world, state, s, -1)
    wave = FRESH if executor[e, LAST] < 0 else (REST if executor[e, LAST] == s else FIRST)
    if state.replay_ms.shape[0] > 0:
        duration_ms = state.replay_ms[g[STARTED]]
    else:
        duration_ms = pick(world, g[LUCK], s, number, job[j, LOCAL], wave) * world.slowness[e]
    executor[e, LAST] = executor[e, TARGET] = s
    executor[e, BUSY] = 1
    executor[e, WAVE], executor[e, CROWD] = wave, job[j, LOCAL]
    state.recent_ms[s] = duration_ms
    now_ms = state.clock[NOW]
    state.start_ms[e] = now_ms
    state.clock[BUSY_MS] += duration_ms
    record_task(state, duration_ms, e, s, job[j, LOCAL], wave, number)
    g[STARTED] += 1
    push(g, state.heap_ms, state.heap, now_ms + duration_ms, e)


@inner
def send(world: World, state: State, e: int, s: int) -> None:
    """Send an idle executor to a stage of another job."""
    before, after = job_of_pool(world, state.executor[e, AT_POOL]), world.job_of[s]
    leave(world, state, e)
    state.stage[s, MOVING] += 1
    shift_demand(world, state, s, -1)
    state.job[after, SUPPLY] += 1
    if before >= 0:
        state.job[before, SUPPLY] -= 1
    detach(state, e)
    state.executor[e, TARGET] = s
    g = state.g
    g[SENT] += 1
    push(g, state.heap_ms, state.heap, state.clock[NOW] + world.delays[MOVING_MS], e)


@inner
def is_ready(state: State, s: int) -> bool:
    """Whether the stage has demand, its parents none, and it was not chosen in this round."""
    stage = state.stage
    ready = stage[s, DEMAND] > 0 and stage[s, THIRSTY_PARENTS] == 0
    return ready and stage[s, CHOSEN] != state.g[ROUND]


@inner
def backup(world: World, state: State, e: int) -> int:
    """Last ready stage of the executor's job, else of the other jobs with room, else -1."""
    own = state.executor[e, AT_JOB]
    for turn in range(-1, state.g[ACTIVE]):
        j = own if turn < 0 else state.active[state.g[ACTIVE] - 1 - turn]
        if j < 0 or (turn >= 0 and j == own) or state.job[j, READY] == 0:
            continue
        if turn >= 0 and state.job[j, SUPPLY] >= world.options[EXECUTORS]:
            continue
        for s in range(world.first_stage[j + 1] - 1, world.first_stage[j] - 1, -1):
            if is_ready(state, s):
                return s
    return -1


@inner
def go(world: World, state: State, e: int, s: int) -> None:
    """Lead an idle executor to a stage, or to a backup if no task is left to start there."""
    if state.stage[s, UNSTARTED] == 0:
        s = backup(world, state, e)
        if s < 0:
            retire(world, state, e)
            return
    j = world.job_of[s]
    if state.executor[e, AT_JOB] != j:
        send(world, state, e, s)
        return
    leave(world, state, e)
    if state.stage[s, UNFINISHED_PARENTS] > 0:
        state.executor[e, LAST] = -1
        enter(state, e, 1 + j)
        return
    enter(state, e, 1 + world.arrival_ms.shape[0] + s)
    execute(world, state, e, s)
