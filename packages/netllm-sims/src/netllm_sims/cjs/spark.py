"""Jobs of Spark's event logs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netllm_sims.cjs.dag import LEVELS, Dag, Waves, build

_NEEDED = {
    "SparkListenerJobStart": ("Job ID", "Stage Infos"),
    "SparkListenerStageCompleted": ("Stage Info",),
    "SparkListenerTaskEnd": ("Stage ID", "Task Info"),
}


_Run = tuple[int, float, tuple[str, int]]
"""Stage, duration in ms, and core of a finished task."""


@dataclass
class _Stage:
    job: int
    parents: list[int]
    tasks: int
    ends: list[tuple[float, float, str]] = field(default_factory=list)
    """Start and duration in ms, and executor, of each finished task."""
    completed: bool = False


def load_spark(file: str | Path) -> list[Dag]:
    """Graphs of the jobs of an uncompressed event log, in order of their ids.

    `SparkListenerJobStart` names a job's stages and their parents, `SparkListenerTaskEnd` gives the
    durations of successful tasks, `SparkListenerStageCompleted` says which stages ran: those that
    Spark skipped, as their output was there, are left out with their edges. A stage that several
    jobs name belongs to the first. Tasks that wait for a core are not counted, so a task lasts
    from launch to finish.

    On each core of an executor the first task of a stage is its first wave, a fresh one if the
    core had no task of the job before, later ones the rest. Cores are told apart by placing each
    task on the core of its executor that was free longest. The known number of executors is the
    nearest of `LEVELS` to the number of cores that the log used.

    Raises:
        ValueError: A line that is no JSON object, as when the log was cut, an event without a
            field that it must have, or no job that ran; with file and line.

    Source: `JsonProtocol` of Apache Spark; the waves follow Decima's use of them (Mao et al. 2019,
    section 6.2).
    """
    file = Path(file)
    stages: dict[int, _Stage] = {}
    for line, event in _events(file):
        kind = event["Event"]
        if kind == "SparkListenerJobStart":
            _start(file, line, event, stages)
        elif kind == "SparkListenerTaskEnd":
            _end(file, line, event, stages)
        elif kind == "SparkListenerStageCompleted":
            info = event["Stage Info"]
            number = _get(file, line, info, "Stage ID")
            if number in stages and "Failure Reason" not in info:
                stages[number].completed = True
    runs, level = _place(stages)
    dags = []
    for job in sorted(runs):
        ran = {k: s for k, s in stages.items() if s.job == job and s.completed and s.ends}
        if ran:
            dags.append(_dag(f"{file.stem}-job-{job}", ran, runs[job], level))
    if not dags:
        raise ValueError(f"{file}: must hold at least one job whose stages completed, got none.")
    return dags


def _events(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open("rb") as stream:
        for line, raw in enumerate(stream, start=1):
            try:
                event = json.loads(raw)
                kind = event["Event"]
            except (ValueError, TypeError, KeyError):
                cut = "" if raw.endswith(b"\n") else " The log ends within this line: it was cut."
                raise ValueError(
                    f"{file}, line {line}: must be a JSON object with the field `Event`, got "
                    f"{raw[:60].decode(errors='replace')!r}.{cut}"
                ) from None
            for name in _NEEDED.get(kind, ()):
                _get(file, line, event, name)
            yield line, event


def _get(file: Path, line: int, record: dict[str, Any], name: str) -> Any:
    if not isinstance(record, dict) or name not in record:
        raise ValueError(
            f"{file}, line {line}: must hold the field `{name}`, as Spark 2.0 and later write it, "
            f"got {', '.join(record) if isinstance(record, dict) else record!r}."
        )
    return record[name]


def _start(file: Path, line: int, event: dict[str, Any], stages: dict[int, _Stage]) -> None:
    for info in event["Stage Infos"]:
        number = _get(file, line, info, "Stage ID")
        tasks = _get(file, line, info, "Number of Tasks")
        if number not in stages:
            if tasks < 1:
                raise ValueError(
                    f"{file}, line {line}: stage {number} must have at least one task, got {tasks}."
                )
            stages[number] = _Stage(
                event["Job ID"], list(_get(file, line, info, "Parent IDs")), tasks
            )


def _end(file: Path, line: int, event: dict[str, Any], stages: dict[int, _Stage]) -> None:
    info = event["Task Info"]
    names = "Launch Time", "Finish Time", "Executor ID"
    launch_ms, finish_ms, executor = (_get(file, line, info, name) for name in names)
    if finish_ms < launch_ms:
        raise ValueError(
            f"{file}, line {line}: a task must not finish before its launch, got "
            f"{launch_ms} and {finish_ms} ms."
        )
    number = event["Stage ID"]
    if number in stages and not info.get("Failed") and not info.get("Killed"):
        stages[number].ends.append((float(launch_ms), float(finish_ms - launch_ms), str(executor)))


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


def _dag(name: str, ran: dict[int, _Stage], runs: list[_Run], level: int) -> Dag:
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
    return build(name, waves, edges)
