"""What a policy sees of an episode, written into rows that several episodes share."""

from jaxtyping import Bool, Float, Int
from numpy import ndarray

from netllm_sims.cjs.engine.commitments import committable
from netllm_sims.cjs.engine.compilation import compiled, inner
from netllm_sims.cjs.engine.decision_rounds import can_wait, source_job
from netllm_sims.cjs.engine.state_arrays import (
    ACTIVE,
    COMMITTED,
    DEMAND,
    EXECUTORS,
    JOB_MS,
    LOCAL,
    MOVING,
    NOW,
    OPEN,
    RUNNING,
    SCHEDULABLE,
    SOURCE,
    SUPPLY,
    UNFINISHED_PARENTS,
    UNSTARTED,
    State,
    World,
)  # fmt: skip


@inner
def is_active(state: State, s: int) -> bool:
    """Whether tasks of the stage are unfinished."""
    return state.stage[s, UNSTARTED] + state.stage[s, RUNNING] > 0


@compiled
def sizes(world: World, state: State) -> tuple[int, int, int]:
    """Active jobs, their unfinished stages, and the edges among these."""
    stages, edges = 0, 0
    for i in range(state.g[ACTIVE]):
        j = state.active[i]
        for s in range(world.first_stage[j], world.first_stage[j + 1]):
            stages += is_active(state, s)
        for m in range(world.first_edge[j], world.first_edge[j + 1]):
            edges += is_active(state, world.edges[m, 0]) and is_active(state, world.edges[m, 1])
    return state.g[ACTIVE], stages, edges


@compiled
def write(
    world: World,
    state: State,
    start: tuple[int, int, int, int],
    jobs: Float[ndarray, "job 5"],
    stages: Float[ndarray, "stage 9"],
    flags: Bool[ndarray, "2 stage"],
    numbers: Int[ndarray, "2 stage"],
    job_id: Int[ndarray, "job"],
    edges: Int[ndarray, "edge 2"],
    whole: Float[ndarray, "batch 6"],
) -> None:
    """Write an episode's rows; `start` is its place in the batch, first job, stage and edge."""
    b, first, at, m = start
    source = source_job(world, state)
    row_of, source_row = state.row_of, -1
    for i in range(state.g[ACTIVE]):
        j = state.active[i]
        if j == source:
            source_row = first + i
        job_id[first + i] = j
        write_job(world, state, j, source, jobs[first + i])
        for s in range(world.first_stage[j], world.first_stage[j + 1]):
            if not is_active(state, s):
                continue
            row_of[s] = at
            write_stage(world, state, s, stages[at])
            flags[0, at] = False
            flags[1, at] = state.stage[s, UNFINISHED_PARENTS] == 0
            numbers[0, at], numbers[1, at] = first + i, s - world.first_stage[j]
            at += 1
        for k in range(world.first_edge[j], world.first_edge[j + 1]):
            parent, child = world.edges[k, 0], world.edges[k, 1]
            if is_active(state, parent) and is_active(state, child):
                edges[m, 0], edges[m, 1] = row_of[parent], row_of[child]
                m += 1
        write_paths(world, state, j, stages)
    for i in range(state.g[SCHEDULABLE]):
        flags[0, row_of[state.schedulable[i]]] = True
    write_whole(world, state, source_row, whole[b])


@inner
def write_whole(world: World, state: State, source_row: int, out: Float[ndarray, "6"]) -> None:
    """Features of the whole episode."""
    out[0], out[1], out[2] = committable(state), world.options[EXECUTORS], source_row
    out[3], out[5] = state.clock[NOW], state.clock[JOB_MS]
    out[4] = state.g[SOURCE] >= 0 and can_wait(world, state)


@inner
def write_job(world: World, state: State, j: int, source: int, out: Float[ndarray, "5"]) -> None:
    """Features of a job."""
    out[0], out[1], out[2] = state.job[j, SUPPLY], state.job[j, LOCAL], state.job[j, OPEN]
    out[3] = state.clock[NOW] - world.arrival_ms[j]
    out[4] = j == source


@inner
def write_stage(world: World, state: State, s: int, out: Float[ndarray, "9"]) -> None:
    """Features of a stage; its path is its own duration until `write_paths`."""
    row = state.stage[s]
    out[0], out[1], out[2], out[3] = row[UNSTARTED], row[RUNNING], row[MOVING], row[COMMITTED]
    out[4], out[5], out[6] = row[DEMAND], world.tasks[s], state.recent_ms[s]
    out[7] = row[UNSTARTED] * state.recent_ms[s]
    out[8] = state.recent_ms[s]


@inner
def write_paths(world: World, state: State, j: int, stages: Float[ndarray, "stage 9"]) -> None:
    """Longest paths down the unfinished stages of a job, one task per stage, children first."""
    row_of = state.row_of
    for i in range(world.first_stage[j + 1] - 1, world.first_stage[j] - 1, -1):
        s = world.order[i]
        if not is_active(state, s):
            continue
        out = stages[row_of[s]]
        for k in range(world.first_child[s], world.first_child[s + 1]):
            child = world.child[k]
            if is_active(state, child):
                out[8] = max(out[8], out[6] + stages[row_of[child], 8])
