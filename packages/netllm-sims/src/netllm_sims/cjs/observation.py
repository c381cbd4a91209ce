"""What policies see: one or several episodes, each at a decision, in rows under one another."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy import ndarray

from netllm_sims.cjs.engine.state_arrays import State, World

Observation = dict[str, ndarray]

STAGE_COLUMNS = (
    "unstarted",
    "running",
    "moving",
    "committed",
    "demand",
    "tasks",
    "recent_ms",
    "work_ms",
    "path_ms",
)
"""Columns of `stages`: tasks not started, tasks running, executors on their way and committed,
unstarted - moving - committed, all tasks, last task's duration (before any: the mean of the known),
unstarted · recent_ms, longest path of unfinished stages from this one down, one task each."""

JOB_COLUMNS = ("supply", "local", "stages_left", "age_ms", "is_source")
"""Columns of `jobs`: executors at the job, on their way and committed to it from elsewhere;
executors at the job; unfinished stages; time since arrival; 1 where they are being released."""


class Observable(Protocol):
    """The arrays of a running episode, as a `Simulator` has them."""

    world: World
    state: State


def observe(simulators: Sequence[Observable], episodes: Sequence[int] = (0,)) -> Observation:
    """Observation of simulators that all wait for a decision, fresh arrays each time.

    | field | shape | meaning |
    |---|---|---|
    | `stages` | (stages, 9) | of active jobs, unfinished: `STAGE_COLUMNS`, float32 |
    | `jobs` | (jobs, 5) | active jobs in order of arrival, `JOB_COLUMNS`, float32 |
    | `edges` | (edges, 2) | rows (parent, child) among these stages |
    | `schedulable` | (stages,) | whether the stage may be chosen |
    | `frontier` | (stages,) | whether its parents are finished |
    | `stage_job` | (stages,) | row of its job |
    | `stage_id` | (stages,) | number within its job |
    | `job_id` | (jobs,) | number in the sequence |
    | `stage_ptr`, `job_ptr`, `edge_ptr` | (batch + 1,) | first row of each; the end |
    | `committable` | (batch,) | executors to be committed |
    | `executors` | (batch,) | executors of the cluster |
    | `source_job` | (batch,) | row of the job that releases them, or -1 |
    | `time_ms` | (batch,) | time since the start, float64 |
    | `job_ms` | (batch,) | time that all jobs have spent in the cluster so far, float64 |
    | `can_wait` | (batch,) | whether choosing none is allowed: something else will happen |
    | `episode` | (batch,) | number of the episode, from `episodes` |

    Flags are bool, counts and rows int64.
    """
    from netllm_sims.cjs.engine.observation_rows import sizes, write

    counts = np.array([sizes(s.world, s.state) for s in simulators], np.int64).reshape(-1, 3)
    ptr = np.zeros((len(counts) + 1, 3), np.int64)
    np.cumsum(counts, axis=0, out=ptr[1:])
    jobs, stages, edges = ptr[-1].tolist()
    job_rows = np.empty((jobs, len(JOB_COLUMNS)), np.float32)
    stage_rows = np.empty((stages, len(STAGE_COLUMNS)), np.float32)
    flags, numbers = np.empty((2, stages), np.bool_), np.empty((2, stages), np.int64)
    job_id, links = np.empty(jobs, np.int64), np.empty((edges, 2), np.int64)
    whole = np.empty((len(simulators), 6))
    rows = job_rows, stage_rows, flags, numbers, job_id, links, whole
    for b, (s, (j, i, m)) in enumerate(zip(simulators, ptr.tolist(), strict=False)):
        write(s.world, s.state, (b, j, i, m), *rows)
    counted = whole.astype(np.int64)
    return {
        "stages": stage_rows,
        "jobs": job_rows,
        "edges": links,
        "schedulable": flags[0],
        "frontier": flags[1],
        "stage_job": numbers[0],
        "stage_id": numbers[1],
        "job_id": job_id,
        "stage_ptr": ptr[:, 1],
        "job_ptr": ptr[:, 0],
        "edge_ptr": ptr[:, 2],
        "committable": counted[:, 0],
        "executors": counted[:, 1],
        "source_job": counted[:, 2],
        "time_ms": whole[:, 3],
        "job_ms": whole[:, 5],
        "can_wait": whole[:, 4] > 0,
        "episode": np.array(episodes, np.int64),
    }
