"""On which core of its executor a task ran, and which wave of its stage that makes it."""

from array import array
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from netllm_sims.cjs.dag import LEVELS

StageWaves = tuple[array, array, array]  # type: ignore[type-arg]
"""Durations of a stage's tasks in ms: fresh, first, rest."""


class StageTasks(NamedTuple):
    """The finished tasks of each stage."""

    job: dict[int, int]
    launch_ms: dict[int, array]  # type: ignore[type-arg]
    duration_ms: dict[int, array]  # type: ignore[type-arg]
    executor: dict[int, array]  # type: ignore[type-arg]
    """Numbers of the executors."""
    ranks: dict[int, int]
    """Place of each executor in the order of their names, which decides between equal tasks."""


def waves_by_core(tasks: StageTasks) -> tuple[dict[int, StageWaves], int]:
    """The waves of each stage, in order of launch, and the level of the log.

    Each task takes the core of its executor that was free longest, or else a new one.
    """
    stages = [*tasks.launch_ms]
    counts = np.array([len(tasks.launch_ms[stage]) for stage in stages], np.int64)
    stage_of = np.repeat(np.array(stages, np.int64), counts)
    launch_ms, duration_ms, executor = (
        np.concatenate([np.empty(0), *(np.frombuffer(some, some.typecode) for some in lists)])
        for lists in (
            [some for some in table.values() if some]
            for table in (tasks.launch_ms, tasks.duration_ms, tasks.executor)
        )
    )
    rank = np.array([tasks.ranks[number] for number in range(len(tasks.ranks))], np.int64)
    ranked = rank[executor.astype(np.int64)]
    order = np.lexsort((stage_of, ranked, duration_ms, launch_ms))
    free: dict[int, list[tuple[float, int]]] = {}  # when each core was last used, a heap
    cores: dict[int, int] = {}
    last: dict[tuple[int, int, int], int] = {}  # of a job on a core of an executor
    waves: dict[int, StageWaves] = {stage: (array("d"), array("d"), array("d")) for stage in stages}
    for at in order:
        stage, start_ms, lasted_ms = int(stage_of[at]), float(launch_ms[at]), float(duration_ms[at])
        who = int(ranked[at])
        idle = free.setdefault(who, [])
        if idle and idle[0][0] <= start_ms:
            core = heappop(idle)[1]
        else:
            core = cores.get(who, 0)
            cores[who] = core + 1
        heappush(idle, (start_ms + lasted_ms, core))
        job_core = tasks.job[stage], who, core
        wave = 0 if job_core not in last else 2 if last[job_core] == stage else 1
        waves[stage][wave].append(lasted_ms)
        last[job_core] = stage
    used = sum(cores.values())
    return waves, min(LEVELS, key=lambda level: abs(level - used))
