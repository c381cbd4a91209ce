"""The arrays that the compiled core works on, and the names of their columns.

Stages and jobs are numbered over the whole episode. A pool is numbered 0 (common), 1 + job, or
1 + jobs + stage.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.cjs.jobs import Workload

# columns of World.options
EXECUTORS, REFERENCE = range(2)
# columns of World.delays
MOVING_MS, WARMUP_MS = range(2)
# columns of State.g
(
    SOURCE,  # pool whose executors are to be committed, -1 if none
    ACTIVE,  # jobs that have arrived and are not finished
    ARRIVED,
    FINISHED,
    PENDING,  # events in the heap
    COUNTER,  # events ever put there
    SCHEDULABLE,
    ROUND,
    FREE,  # first free node of a commitment
    LUCK,  # of the sampled durations
    STARTED,  # tasks
    SEEN,  # events
    DECISIONS,
    SENT,  # moves between jobs
    FREE_SET,
    SETS,  # ever used
    RESCUED,  # rounds that no event opened
) = range(17)
# columns of State.clock
NOW, JOB_MS, BUSY_MS = range(3)
# columns of State.job
SUPPLY, LOCAL, OPEN, TAKEN, READY = range(5)
# columns of State.stage
UNSTARTED, RUNNING, MOVING, COMMITTED, DEMAND, UNFINISHED_PARENTS, THIRSTY_PARENTS, CHOSEN = range(
    8
)
# columns of State.executor
AT_POOL, AT_JOB, LAST, BUSY, TARGET, WAVE, CROWD = range(7)
# columns of State.pool
PROMISED, HEAD, TAIL, SET = range(4)
# columns of State.node
TO, COUNT, NEXT = range(3)
# columns of State.sets
MASK, FILL, USED, OWNER = range(4)


class World(NamedTuple):
    """What does not change during an episode."""

    options: Int[ndarray, "2"]
    delays: Float[ndarray, "2"]
    arrival_ms: Float[ndarray, "job"]
    first_stage: Int[ndarray, "job_and_end"]
    job_of: Int[ndarray, "stage"]
    tasks: Int[ndarray, "stage"]
    order: Int[ndarray, "stage"]
    """The stages job by job, within a job each after its parents."""
    rough_ms: Float[ndarray, "stage"]
    row: Int[ndarray, "stage"]
    """Row of `cells`."""
    first_child: Int[ndarray, "stage_and_end"]
    child: Int[ndarray, "edge"]
    parents: Int[ndarray, "stage"]
    first_edge: Int[ndarray, "job_and_end"]
    edges: Int[ndarray, "edge 2"]
    cells: Int[ndarray, "row 3 8 3"]
    durations_ms: Float[ndarray, "duration"]
    levels: Int[ndarray, "8"]
    """Numbers of executors with known durations."""
    bracket: Int[ndarray, "executor_and_none 2"]
    """Levels below and above a number of executors, by index; equal at a level."""
    slowness: Float[ndarray, "executor"]
    """How many times as long as by the profiles a task takes on each executor."""


class State(NamedTuple):
    """What does; copy it field by field to branch an episode."""

    g: Int[ndarray, "17"]
    clock: Float[ndarray, "3"]
    job: Int[ndarray, "job 5"]
    """Supply, local executors, unfinished stages, stages without unstarted tasks, ready stages."""
    done_ms: Float[ndarray, "job"]
    """Time at which the job was finished, infinite before."""
    stage: Int[ndarray, "stage 8"]
    """Tasks unstarted and running, executors moving and committed there, demand, unfinished
    parents, parents with demand, round in which it was chosen."""
    recent_ms: Float[ndarray, "stage"]
    executor: Int[ndarray, "executor 7"]
    """Pool (-1 on its way), job, stage of the last task (-1 idle), whether busy, stage of its
    next event; of its latest task the wave and the executors at the job."""
    start_ms: Float[ndarray, "executor"]
    """When its latest task started."""
    heap_ms: Float[ndarray, "executor"]
    heap: Int[ndarray, "executor 2"]
    """Order of insertion, executor."""
    pool: Int[ndarray, "pool 4"]
    """Commitments from it, first and last of these, its set."""
    node: Int[ndarray, "executor 3"]
    """Commitments: to stage (-1 the common pool), how many, the next one."""
    sets: Int[ndarray, "set 4"]
    """Mask, cells filled since the last rebuild, members, pool (-1 free, then the second column is
    the next free one). Set 0 is scratch."""
    table: Int[ndarray, "set cell"]
    """Members + 1; 0 never used, -1 removed."""
    spare: Int[ndarray, "2 cell"]
    """Scratch: cells of a set that is rebuilt, idle members of a pool."""
    plan: Int[ndarray, "executor 2"]
    """Scratch: commitments that are being fulfilled."""
    active: Int[ndarray, "job"]
    """Active jobs in order of arrival."""
    schedulable: Int[ndarray, "stage"]
    """Stages that may be chosen now."""
    row_of: Int[ndarray, "stage"]
    """Scratch: row of a stage in the observation."""
    replay_ms: Float[ndarray, "task"]
    """Recorded durations, or none."""
    task_log: Float[ndarray, "task 7"]
    """Start, duration, executor, stage, local executors, wave, number; empty if not logged."""
    event_log: Float[ndarray, "event 4"]
    """Time, kind (0 job, 1 executor, 2 task), job or executor, stage; empty if not logged."""


def bracket(executors: int, levels: tuple[int, ...]) -> Int[ndarray, "executor_and_none 2"]:
    """Indices of the levels around each number of executors."""
    numbers = np.clip(np.arange(executors + 1), levels[0], levels[-1])
    right = np.searchsorted(levels, numbers)
    left = np.where(np.asarray(levels)[right] == numbers, right, right - 1)
    return np.ascontiguousarray(np.stack([left, right], axis=1))


def slowness(executors: int, slow: int, factor: float) -> Float[ndarray, "executor"]:
    """`factor` for so many slow executors, evenly spread among the others, which have 1."""
    before = np.arange(executors + 1) * slow // executors
    return np.where(np.diff(before) > 0, factor, 1.0)


def build_world(
    jobs: Workload,
    *,
    slowness: Float[ndarray, "executor"],
    moving_ms: float,
    warmup_ms: float,
    reference: bool,
) -> World:
    """The unchanging arrays of an episode, on as many executors as `slowness` has."""
    from netllm_sims.cjs.dag import LEVELS

    stages, executors = len(jobs.job_of), len(slowness)
    by_parent = jobs.edges[np.argsort(jobs.edges[:, 0], kind="stable")]
    return World(
        np.array([executors, reference], np.int64),
        np.array([moving_ms, warmup_ms]),
        jobs.arrival_ms,
        jobs.first_stage,
        jobs.job_of,
        jobs.tasks,
        jobs.order,
        jobs.rough_ms,
        jobs.row,
        np.searchsorted(by_parent[:, 0], np.arange(stages + 1)),
        np.ascontiguousarray(by_parent[:, 1]),
        np.bincount(jobs.edges[:, 1], minlength=stages),
        jobs.first_edge,
        jobs.edges,
        jobs.catalogue.cells,
        jobs.catalogue.durations_ms,
        np.array(LEVELS),
        bracket(executors, LEVELS),
        slowness,
    )


def build_state(
    world: World,
    *,
    luck: int = 0,
    replay_ms: Float[ndarray, "task"] | None = None,
    log: bool = False,
) -> State:
    """The state before anything happened; `decision_rounds.begin` starts it."""
    executors = int(world.options[EXECUTORS])
    state = _empty_state(world, replay_ms=replay_ms, log=log)
    state.g[[LUCK, ROUND, FREE_SET, SETS]] = np.uint64(luck % 2**64).astype(np.int64), 1, -1, 1
    state.stage[:, UNSTARTED] = state.stage[:, DEMAND] = world.tasks
    state.stage[:, UNFINISHED_PARENTS] = state.stage[:, THIRSTY_PARENTS] = world.parents
    state.job[:, OPEN] = np.diff(world.first_stage)
    state.job[:, READY] = np.add.reduceat(
        world.parents == 0, world.first_stage[:-1], dtype=np.int64
    )
    state.executor[:, BUSY] = 0
    state.pool[:, PROMISED] = 0
    state.node[:, NEXT] = np.append(np.arange(1, executors), -1)
    return state


def _empty_state(world: World, *, replay_ms: Float[ndarray, "task"] | None, log: bool) -> State:
    """The arrays, with nothing in them yet."""
    jobs, stages, executors = len(world.arrival_ms), len(world.tasks), int(world.options[EXECUTORS])
    pools = 1 + jobs + stages
    sets = 1 + min(pools, executors + 1024)
    cells = 8
    while cells <= 4 * executors:
        cells *= 2
    tasks = int(world.tasks.sum()) if log else 0
    return State(
        g=np.zeros(17, np.int64),
        clock=np.zeros(3),
        job=np.zeros((jobs, 5), np.int32),
        done_ms=np.full(jobs, np.inf),
        stage=np.zeros((stages, 8), np.int32),
        recent_ms=world.rough_ms.copy(),
        executor=np.full((executors, 7), -1),
        start_ms=np.zeros(executors),
        heap_ms=np.zeros(executors),
        heap=np.zeros((executors, 2), np.int64),
        pool=np.full((pools, 4), -1, np.int32),
        node=np.zeros((executors, 3), np.int64),
        sets=np.zeros((sets, 4), np.int32),
        table=np.zeros((sets, cells), np.int32),
        spare=np.zeros((2, cells), np.int64),
        plan=np.zeros((executors, 2), np.int64),
        active=np.zeros(jobs, np.int64),
        schedulable=np.zeros(stages, np.int64),
        row_of=np.zeros(stages, np.int64),
        replay_ms=np.zeros(0) if replay_ms is None else np.array(replay_ms, np.float64),
        task_log=np.zeros((tasks, 7)),
        event_log=np.zeros((2 * tasks + jobs if log else 0, 4)),
    )
