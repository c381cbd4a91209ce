"""What Decima's network sees of a decision, compiled."""

from math import log1p

import numpy as np
from jaxtyping import Bool, Float, Int
from netllm_sims.cjs.compiled_policy_tools import compiled, inner
from numpy import ndarray

TASKS, WORK_MS = 200.0, 1e5
"""Scales of the published features."""
PUBLISHED, EXTENDED = 5, 12
"""Number of features of a stage."""


@compiled
def describe(
    stages: Float[ndarray, "stage 8"],
    jobs: Float[ndarray, "job 5"],
    edges: Int[ndarray, "edge 2"],
    frontier: Bool[ndarray, "stage"],
    stage_job: Int[ndarray, "stage"],
    job_ptr: Int[ndarray, "batch_and_end"],
    committable: Int[ndarray, "batch"],
    executors: Int[ndarray, "batch"],
    x: Float[ndarray, "stage feature"],
    room: Int[ndarray, "job"],
    depth: Int[ndarray, "stage"],
) -> None:
    """Write features, executors that a job may still get, and depths.

    A stage's depth is the number of edges on the longest path to it. Features, the last seven
    only where `x` has room for them: room / executors, 1 in the job that releases executors (else
    -1), supply / executors, unstarted / 200, unstarted * recent / 100 s; running, moving and
    committed / executors, 1 if the parents are finished, and the logarithms of 1 + unstarted, of
    1 + recent in s and of 1 + their product, divided by 4, 2 and 5.
    """
    write_room(jobs, job_ptr, committable, executors, room)
    b = 0
    for i in range(stages.shape[0]):
        j = stage_job[i]
        while j >= job_ptr[b + 1]:
            b += 1
        unstarted, recent_s = np.float64(stages[i, 0]), stages[i, 6] * 1e-3
        x[i, 0] = room[j] / executors[b]
        x[i, 1] = 1.0 if jobs[j, 4] > 0 else -1.0
        x[i, 2] = jobs[j, 0] / executors[b]
        x[i, 3] = unstarted / TASKS
        x[i, 4] = unstarted * np.float64(stages[i, 6]) / WORK_MS
        if x.shape[1] == EXTENDED:
            for k in range(3):
                x[i, 5 + k] = stages[i, 1 + k] / executors[b]
            x[i, 8] = 1.0 if frontier[i] else 0.0
            x[i, 9] = log1p(unstarted) / 4.0
            x[i, 10] = log1p(recent_s) / 2.0
            x[i, 11] = log1p(unstarted * recent_s) / 5.0
    write_depth(edges, depth)


@inner
def write_room(
    jobs: Float[ndarray, "job 5"],
    job_ptr: Int[ndarray, "batch_and_end"],
    committable: Int[ndarray, "batch"],
    executors: Int[ndarray, "batch"],
    room: Int[ndarray, "job"],
) -> None:
    """Write how many executors each job may still get."""
    for b in range(committable.shape[0]):
        for j in range(job_ptr[b], job_ptr[b + 1]):
            room[j] = committable[b]
            if jobs[j, 4] == 0:
                room[j] = min(max(executors[b] - int(jobs[j, 0]), 0), committable[b])


@inner
def write_depth(edges: Int[ndarray, "edge 2"], depth: Int[ndarray, "stage"]) -> None:
    """Write the number of edges on the longest path to each stage."""
    for i in range(depth.shape[0]):
        depth[i] = 0
    changed = True
    while changed:
        changed = False
        for e in range(edges.shape[0]):
            parent, child = edges[e, 0], edges[e, 1]
            if depth[child] <= depth[parent]:
                depth[child] = depth[parent] + 1
                changed = True
