"""Jobs of Spark's event logs."""

import logging
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from netllm_sims.cjs.dag import MOST_TASKS, Cycle, Dag, Waves, build, of
from netllm_sims.cjs.job_files.record_limit import RecordLimit
from netllm_sims.cjs.job_files.spark_cores import StageTasks, StageWaves, waves_by_core
from netllm_sims.cjs.job_files.spark_events import Line, get, lines
from netllm_sims.files import unit_warnings
from netllm_sims.files.unit_warnings import Doubt

_logger = logging.getLogger(__name__)

_TASK_BYTES, _STAGE_BYTES, _EXECUTOR_BYTES = 400, 10_000, 20_000


@dataclass(slots=True)
class _Stage:
    where: str
    """File and line."""
    job: int
    parents: list[int]
    tasks: int
    launch_ms: array = field(default_factory=lambda: array("d"))  # type: ignore[type-arg]
    """Of each finished task."""
    duration_ms: array = field(default_factory=lambda: array("d"))  # type: ignore[type-arg]
    executor: array = field(default_factory=lambda: array("i"))  # type: ignore[type-arg]
    """Its number in the order of first appearance."""
    completed: bool = False


class _Log:
    """What was read of a log so far."""

    def __init__(self) -> None:
        self.stages: dict[int, _Stage] = {}
        self.early: dict[int, int] = {}
        """Stages that ran though no job had named them, and where."""
        self.jobs: dict[int, str] = {}
        """How each job that started came out: empty where it never ended."""
        self.executors: dict[str, int] = {}
        self.ended = 0
        self._rooms = {
            "tasks": RecordLimit("finished tasks of a log", _TASK_BYTES),
            "stages": RecordLimit("stages and jobs of a log", _STAGE_BYTES),
            "executors": RecordLimit("executors of a log", _EXECUTOR_BYTES),
        }

    def check_room(self, where: object) -> None:
        """Raise unless all that was read fits into memory."""
        self._rooms["tasks"].check(where, self.ended)
        self._rooms["stages"].check(where, len(self.stages) + len(self.jobs) + len(self.early))
        self._rooms["executors"].check(where, len(self.executors))


def load_spark(log: str | Path) -> list[Dag]:
    """Graphs of the jobs of an event log, in order of their ids.

    The log is a file, packed by gzip or not, or the folder `eventlog_v2_…` of one that Spark rolled
    over. It is read line by line.

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
            field that it must have or with one of another type, a parent that no job names, a stage
            that runs before its job starts, stages that wait for one another, a log that is packed
            otherwise than by gzip, bzip2 or xz or lacks a file, more than the limit of `reading`
            admits, or no whole job; with file and line.

    Source: `JsonProtocol` and `EventLogFileReaders` of Apache Spark; the waves follow Decima's use
    of them (Mao et al. 2019, section 6.2).
    """
    log = Path(log)
    read = _read(log)
    waves, level = _waves(read)
    of_job: dict[int, dict[int, _Stage]] = {}
    for number, stage in read.stages.items():
        of_job.setdefault(stage.job, {})[number] = stage
    dags: list[Dag] = []
    left_out: Counter[str] = Counter()
    for job, fault in sorted(read.jobs.items()):
        ran = {k: s for k, s in of_job.get(job, {}).items() if s.completed}
        if not fault and not all(len(stage.launch_ms) for stage in ran.values()):
            fault = _LOST
        if fault:
            left_out[fault] += 1
        elif ran:
            dags.append(_dag(log, job, ran, waves, level))
    reasons = ", ".join(f"{count} that {fault}" for fault, count in left_out.items())
    if not dags:
        raise ValueError(
            f"{log}: must hold at least one job whose stages completed and that ended, got "
            f"{reasons or 'none'}."
        )
    if left_out:
        _logger.warning(
            "%s: %d of %d jobs were left out: %s.", log, left_out.total(), len(read.jobs), reasons
        )
    return dags


def _read(log: Path) -> _Log:
    read = _Log()
    for line in lines(log):
        if line.event in _READERS:
            _READERS[line.event](line, read)
            read.check_room(log if log.is_dir() else line.where)
    unit_warnings.warn(log, list(_odd(read)))
    return read


def _waves(read: _Log) -> tuple[dict[int, StageWaves], int]:
    """The waves of each stage, and the level of the log."""
    names = sorted(read.executors)
    ranks = {read.executors[name]: rank for rank, name in enumerate(names)}
    known = read.stages.items()
    return waves_by_core(
        StageTasks(
            job={number: stage.job for number, stage in known},
            launch_ms={number: stage.launch_ms for number, stage in known},
            duration_ms={number: stage.duration_ms for number, stage in known},
            executor={number: stage.executor for number, stage in known},
            ranks=ranks,
        )
    )


_UNENDED = "never ended (the application was running, or the log was cut)"
_FAILED = "failed"
_UNSTARTED = "ended but never started (the log's beginning is missing)"
_LOST = "completed a stage without any task that succeeded (Spark dropped events)"


def _start(line: Line, read: _Log) -> None:
    event, where = line.fields(), line.where
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
            read.stages[number] = _new(where, job, number, parents, tasks, read)


def _new(where: str, job: int, number: int, parents: list[int], tasks: int, read: _Log) -> _Stage:
    if number in read.early:
        raise ValueError(
            f"{where}: job {job} must start before its stage {number} runs, which line "
            f"{read.early[number]} tells. Are lines out of order?"
        )
    if not 1 <= tasks <= MOST_TASKS:
        raise ValueError(
            f"{where}: stage {number} must have at least one task, and at most {MOST_TASKS}, got "
            f"{tasks}."
        )
    return _Stage(where, job, parents, tasks)


def _end(line: Line, read: _Log) -> None:
    end = line.task_end()
    info = end.info
    if info.finish_ms < info.launch_ms:
        raise ValueError(
            f"{line.where}: a task must not finish before its launch, got "
            f"{info.launch_ms} and {info.finish_ms} ms."
        )
    if end.stage not in read.stages:
        read.early.setdefault(end.stage, line.number)
    elif not info.failed and not info.killed:
        stage = read.stages[end.stage]
        read.ended += 1
        stage.launch_ms.append(info.launch_ms)
        stage.duration_ms.append(info.finish_ms - info.launch_ms)
        stage.executor.append(read.executors.setdefault(info.executor, len(read.executors)))


def _complete(line: Line, read: _Log) -> None:
    info = get(line.where, line.fields(), "Stage Info")
    number = get(line.where, info, "Stage ID")
    if number not in read.stages:
        read.early.setdefault(number, line.number)
    elif "Failure Reason" not in info:
        read.stages[number].completed = True


def _finish(line: Line, read: _Log) -> None:
    event = line.fields()
    job = get(line.where, event, "Job ID")
    result = event.get("Job Result")
    failed = isinstance(result, dict) and result.get("Result") != "JobSucceeded"
    read.jobs[job] = _UNSTARTED if job not in read.jobs else _FAILED if failed else ""


_READERS = {
    "SparkListenerJobStart": _start,
    "SparkListenerTaskEnd": _end,
    "SparkListenerStageCompleted": _complete,
    "SparkListenerJobEnd": _finish,
}

_SECONDS = (1e8, 1e11)
"""Range of the seconds since 1970; milliseconds have passed it since 1973."""


def _odd(read: _Log) -> Iterator[Doubt]:
    """What looks like seconds in place of milliseconds."""
    first = min(
        (stage.launch_ms[0] for stage in read.stages.values() if stage.launch_ms), default=0
    )
    if _SECONDS[0] <= first <= _SECONDS[1]:
        yield Doubt(
            f"the first task is launched at {first:.0f}",
            "milliseconds since 1970, such as 1700000000000",
            "If the times are seconds, multiply `Launch Time` and `Finish Time` by 1,000.",
        )


def _dag(
    log: Path,
    job: int,
    ran: dict[int, _Stage],
    waves: dict[int, StageWaves],
    level: int,
) -> Dag:
    row = {number: k for k, number in enumerate(sorted(ran))}
    profiles = []
    for number in row:
        fresh, first, rest = ({level: some} for some in waves[number])
        profiles.append(Waves(tasks=ran[number].tasks, fresh=fresh, first=first, rest=rest))
    edges = [(row[p], row[k]) for k, stage in ran.items() for p in stage.parents if p in row]
    with of(log):
        try:
            return build(f"{log.stem}-job-{job}", profiles, dict.fromkeys(edges))
        except Cycle as fault:
            circle = [list(row)[stage] for stage in fault.stages]
    raise ValueError(
        f"{ran[circle[0]].where}: the stages of job {job} must form no cycle, but stages "
        f"{', '.join(map(str, circle[:10]))} wait for one another."
    )
