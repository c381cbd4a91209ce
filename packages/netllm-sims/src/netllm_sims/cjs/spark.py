"""Jobs of Spark's event logs."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netllm_sims.cjs._spark_log import events, get
from netllm_sims.cjs.dag import LEVELS, MOST_TASKS, Cycle, Dag, Waves, build, of

_log = logging.getLogger(__name__)

_Run = tuple[int, float, tuple[str, int]]
"""Stage, duration in ms, and core of a finished task."""


@dataclass
class _Stage:
    where: str
    """File and line."""
    job: int
    parents: list[int]
    tasks: int
    ends: list[tuple[float, float, str]] = field(default_factory=list)
    """Start and duration in ms, and executor, of each finished task."""
    completed: bool = False


@dataclass
class _Read:
    """What a log told so far."""

    stages: dict[int, _Stage] = field(default_factory=dict)
    jobs: dict[int, str] = field(default_factory=dict)
    """How each job that started came out: empty where it never ended."""


def load_spark(log: str | Path) -> list[Dag]:
    """Graphs of the jobs of an event log, in order of their ids.

    The log is a file, gzipped or not, or the folder `eventlog_v2_…` of one that Spark rolled over.

    `SparkListenerJobStart` names a job's stages and their parents, `SparkListenerTaskEnd` gives the
    durations of successful tasks, `SparkListenerStageCompleted` says which stages ran: those that
    Spark skipped, as their output was there, are left out with their edges. A stage that several
    jobs name belongs to the first. Tasks that wait for a core are not counted, so a task lasts
    from launch to finish. Only jobs of which `SparkListenerJobEnd` tells success are whole: others
    are left out, and a warning of this module's logger counts them.

    On each core of an executor the first task of a stage is its first wave, a fresh one if the
    core had no task of the job before, later ones the rest. Cores are told apart by placing each
    task on the core of its executor that was free longest. The known number of executors is the
    nearest of `LEVELS` to the number of cores that the log used.

    Raises:
        ValueError: A line that is no JSON object, as when the log was cut, an event without a
            field that it must have or with one of another type, a parent that no job names, stages
            that wait for one another, a log that is compressed other than by gzip or lacks a file,
            or no whole job; with file and line.

    Source: `JsonProtocol` and `EventLogFileReaders` of Apache Spark; the waves follow Decima's use
    of them (Mao et al. 2019, section 6.2).
    """
    log = Path(log)
    read = _Read()
    for where, event in events(log):
        if event["Event"] in _READERS:
            _READERS[event["Event"]](where, event, read)
    runs, level = _place(read.stages)
    dags: list[Dag] = []
    left_out: Counter[str] = Counter()
    for job in sorted(read.jobs):
        own = {k: s for k, s in read.stages.items() if s.job == job}
        ran = {k: s for k, s in own.items() if s.completed}
        fault = read.jobs[job]
        if not fault and not all(stage.ends for stage in ran.values()):
            fault = _LOST
        if fault:
            left_out[fault] += 1
        elif ran:
            dags.append(_dag(log, job, ran, runs[job], level))
    some = ", ".join(f"{count} that {fault}" for fault, count in left_out.items())
    if not dags:
        raise ValueError(
            f"{log}: must hold at least one job whose stages completed and that ended, got "
            f"{some or 'none'}."
        )
    if left_out:
        _log.warning(
            "%s: %d of %d jobs were left out: %s.", log, left_out.total(), len(read.jobs), some
        )
    return dags


_UNENDED = "never ended (the application was running, or the log was cut)"
_FAILED = "failed"
_UNSTARTED = "ended but never started (the log's beginning is missing)"
_LOST = "completed a stage without any task that succeeded (Spark dropped events)"


def _start(where: str, event: dict[str, Any], read: _Read) -> None:
    job = get(where, event, "Job ID")
    if job in read.jobs:
        raise ValueError(
            f"{where}: a job must start once, but {job} starts again. Does the file hold the logs "
            "of two applications?"
        )
    read.jobs[job] = _UNENDED
    infos = {get(where, info, "Stage ID"): info for info in get(where, event, "Stage Infos")}
    for number, info in infos.items():
        tasks, parents = (get(where, info, name) for name in ("Number of Tasks", "Parent IDs"))
        for parent in parents:
            if parent not in infos and parent not in read.stages:
                raise ValueError(
                    f"{where}: stage {number} of job {job} names the parent {parent}, which no "
                    "job names as its stage."
                )
        if number not in read.stages:
            if not 1 <= tasks <= MOST_TASKS:
                raise ValueError(
                    f"{where}: stage {number} must have at least one task, and at most "
                    f"{MOST_TASKS}, got {tasks}."
                )
            read.stages[number] = _Stage(where, job, parents, tasks)


def _end(where: str, event: dict[str, Any], read: _Read) -> None:
    number, info = (get(where, event, name) for name in ("Stage ID", "Task Info"))
    names = "Launch Time", "Finish Time", "Executor ID"
    launch_ms, finish_ms, executor = (get(where, info, name) for name in names)
    if finish_ms < launch_ms:
        raise ValueError(
            f"{where}: a task must not finish before its launch, got "
            f"{launch_ms} and {finish_ms} ms."
        )
    if number in read.stages and not info.get("Failed") and not info.get("Killed"):
        end = float(launch_ms), float(finish_ms - launch_ms), executor
        read.stages[number].ends.append(end)


def _complete(where: str, event: dict[str, Any], read: _Read) -> None:
    info = get(where, event, "Stage Info")
    number = get(where, info, "Stage ID")
    if number in read.stages and "Failure Reason" not in info:
        read.stages[number].completed = True


def _finish(where: str, event: dict[str, Any], read: _Read) -> None:
    job = get(where, event, "Job ID")
    result = event.get("Job Result")
    failed = isinstance(result, dict) and result.get("Result") != "JobSucceeded"
    read.jobs[job] = _UNSTARTED if job not in read.jobs else _FAILED if failed else ""


_READERS = {
    "SparkListenerJobStart": _start,
    "SparkListenerTaskEnd": _end,
    "SparkListenerStageCompleted": _complete,
    "SparkListenerJobEnd": _finish,
}


def _place(stages: dict[int, _Stage]) -> tuple[dict[int, list[_Run]], int]:
    """Each job's finished tasks in order of launch with their cores, and the level of the log."""
    free_ms: dict[str, list[float]] = {}
    runs: dict[int, list[_Run]] = {}
    ends = sorted((*end, number) for number, stage in stages.items() for end in stage.ends)
    for launch_ms, duration_ms, executor, number in ends:
        free = free_ms.setdefault(executor, [])
        idle = [core for core, since_ms in enumerate(free) if since_ms <= launch_ms]
        core = min(idle, key=free.__getitem__) if idle else len(free)
        free[core : core + 1] = [launch_ms + duration_ms]
        runs.setdefault(stages[number].job, []).append((number, duration_ms, (executor, core)))
    cores = sum(len(free) for free in free_ms.values())
    return runs, min(LEVELS, key=lambda level: abs(level - cores))


def _dag(log: Path, job: int, ran: dict[int, _Stage], runs: list[_Run], level: int) -> Dag:
    row = {number: k for k, number in enumerate(sorted(ran))}
    kept: dict[int, tuple[list[float], list[float], list[float]]] = {k: ([], [], []) for k in ran}
    last: dict[tuple[str, int], int] = {}
    for number, duration_ms, core in runs:
        if number in ran:
            wave = 0 if core not in last else 2 if last[core] == number else 1
            kept[number][wave].append(duration_ms)
        last[core] = number
    waves = []
    for number in row:
        fresh, first, rest = ({level: some} for some in kept[number])
        waves.append(Waves(tasks=ran[number].tasks, fresh=fresh, first=first, rest=rest))
    edges = [(row[p], row[k]) for k, stage in ran.items() for p in stage.parents if p in row]
    with of(log):
        try:
            return build(f"{log.stem}-job-{job}", waves, dict.fromkeys(edges))
        except Cycle as fault:
            circle = [list(row)[stage] for stage in fault.stages]
    raise ValueError(
        f"{ran[circle[0]].where}: the stages of job {job} must form no cycle, but stages "
        f"{', '.join(map(str, circle[:10]))} wait for one another."
    )
