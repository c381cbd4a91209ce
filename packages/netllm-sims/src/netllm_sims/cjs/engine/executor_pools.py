"""Which executors are where, in sets that keep the order of CPython's."""

from netllm_sims.cjs.engine.compilation import inner
from netllm_sims.cjs.engine.python_sets import add, clear, remove
from netllm_sims.cjs.engine.state_arrays import (
    AT_POOL,
    BUSY,
    FILL,
    FREE_SET,
    MASK,
    OWNER,
    RUNNING,
    SET,
    SETS,
    UNSTARTED,
    USED,
    State,
    World,
)  # fmt: skip


@inner
def job_of_pool(world: World, p: int) -> int:
    """Job of a pool, -1 for the common one."""
    jobs = world.arrival_ms.shape[0]
    return p - 1 if p <= jobs else world.job_of[p - 1 - jobs]


@inner
def open_set(state: State, p: int) -> int:
    """An empty set for a pool; if none is free, an empty pool loses its history."""
    g, sets, pool = state.g, state.sets, state.pool
    k = g[FREE_SET]
    if k >= 0:
        g[FREE_SET] = sets[k, FILL]
    elif g[SETS] < sets.shape[0]:
        k = g[SETS]
        g[SETS] += 1
    else:
        k = 1
        while sets[k, USED] > 0:
            k += 1
        pool[sets[k, OWNER], SET] = -1
    clear(state.table, sets, k)
    sets[k, OWNER] = p
    pool[p, SET] = k
    return k


@inner
def close_set(state: State, p: int) -> None:
    """Give the set of a pool back, if it has one and it is empty."""
    k = state.pool[p, SET]
    if k >= 0 and state.sets[k, USED] == 0:
        state.pool[p, SET] = -1
        state.sets[k, OWNER] = -1
        state.sets[k, FILL] = state.g[FREE_SET]
        state.g[FREE_SET] = k


@inner
def leave(world: World, state: State, e: int) -> None:
    """Take an executor out of its pool."""
    p = state.executor[e, AT_POOL]
    if p < 0:
        return
    k = state.pool[p, SET]
    remove(state.table, state.sets, k, e)
    state.executor[e, AT_POOL] = -1
    s = p - 1 - world.arrival_ms.shape[0]
    if s >= 0 and state.stage[s, UNSTARTED] + state.stage[s, RUNNING] == 0:
        close_set(state, p)


@inner
def enter(state: State, e: int, p: int) -> None:
    """Put an executor, which is in none, into a pool."""
    k = state.pool[p, SET]
    if k < 0:
        k = open_set(state, p)
    add(state.table, state.sets, k, e, state.spare)
    state.executor[e, AT_POOL] = p


@inner
def idle_members(state: State, p: int) -> int:
    """Write a pool's idle executors into `spare[1]`, as iterating a set of them gives them."""
    k = state.pool[p, SET]
    if k < 0:
        return 0
    table, sets, executor, spare = state.table, state.sets, state.executor, state.spare
    clear(table, sets, 0)
    for i in range(sets[k, MASK] + 1):
        if table[k, i] > 0 and executor[table[k, i] - 1, BUSY] == 0:
            add(table, sets, 0, table[k, i] - 1, spare)
    count = 0
    for i in range(sets[0, MASK] + 1):
        if table[0, i] > 0:
            spare[1, count] = table[0, i] - 1
            count += 1
    return count
