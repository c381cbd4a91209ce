"""Google's cluster of 2011: jobs of many tasks, by the events of these."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from netllm_sims.cjs.importers._batch_task import TraceJob
from netllm_sims.cjs.job_files.record_limit import RecordLimit
from netllm_sims.files.csv_rows import bare_rows

_WIDTH = 13
_SUBMIT, _SCHEDULE, _EVICT, _FAIL, _FINISH, _KILL, _LOST, _UPDATE_WAITING, _UPDATE = range(9)
_STOPPED = (_SUBMIT, _EVICT, _FAIL, _KILL, _LOST)
_TASK_BYTES = 400
_LATEST_US = 2**63 - 1


@dataclass(slots=True)
class _Job:
    where: str
    submitted_us: int
    started_us: dict[int, int] = field(default_factory=dict)
    took_us: dict[int, int | None] = field(default_factory=dict)
    """Of every task; None unless it has finished."""


def jobs(files: Iterable[Path]) -> tuple[list[TraceJob], int]:
    """The jobs of `task_events` all of whose tasks finished, and how many others there are.

    A job is a stage of its tasks. Each lasts as long as they did on average, from the last event
    SCHEDULE to FINISH: what was evicted or failed before began anew. Jobs that were there before
    the trace began, or that go on in parts of it that are not given, are left out.

    Args:
        files: Parts of `task_events`, in their order.

    Raises:
        ValueError: Another table or version, an event that is none, or one that is earlier than the
            one before; with file and line.

    Source: Reiss, Wilkes & Hellerstein: Google cluster-usage traces: format + schema, version 2
        (2011), section "Task events table".
    """
    seen: dict[int, _Job] = {}
    tasks = 0
    room = RecordLimit("tasks of a trace", _TASK_BYTES)
    for where, time_us, job_id, task, event in _events(files):
        job = seen.setdefault(job_id, _Job(where, time_us))
        if task not in job.took_us:
            tasks += 1
            room.check(where, tasks)
            job.took_us[task] = None
        if event == _SCHEDULE:
            job.started_us[task] = time_us
        elif event == _FINISH and task in job.started_us:
            job.took_us[task] = time_us - job.started_us.pop(task)
        elif event in _STOPPED:
            job.started_us.pop(task, None)
            job.took_us[task] = None
    found = [one for job_id, job in seen.items() if (one := _whole(job_id, job)) is not None]
    return found, len(seen) - len(found)


def _whole(job_id: int, job: _Job) -> TraceJob | None:
    took_us = [one for one in job.took_us.values() if one is not None]
    if job.submitted_us == 0 or len(took_us) < len(job.took_us):
        return None
    mean_s = sum(took_us) / len(took_us) / 1e6
    return TraceJob(job.where, str(job_id), len(took_us), job.submitted_us / 1e6, mean_s)


def _events(files: Iterable[Path]) -> Iterator[tuple[str, int, int, int, int]]:
    """File and line, time in µs, job, task and kind of each event."""
    last_us = 0
    for path in files:
        for line, cells in bare_rows(path, _WIDTH):
            where = f"{path}:{line}"
            time_us = _whole_number(where, "timestamp", cells[0], _LATEST_US)
            if time_us < last_us:
                raise ValueError(
                    f"{where}: events must be in order of their time, got {time_us} after "
                    f"{last_us}. Give the parts in the order of their numbers."
                )
            last_us = time_us
            event = _whole_number(where, "event type", cells[5], _UPDATE)
            job = _whole_number(where, "job ID", cells[2], _LATEST_US)
            task = _whole_number(where, "task index", cells[3], _LATEST_US)
            yield where, time_us, job, task, event


def _whole_number(where: str, name: str, cell: str, most: int) -> int:
    value = int(cell) if re.fullmatch(r"[0-9]{1,19}", cell) else -1
    if not 0 <= value <= most:
        raise ValueError(
            f"{where}: {name} must be a whole number from 0 to {most}, got {cell!r:.60}. It must "
            "be a part of task_events of the trace of 2011, which has no header."
        )
    return value
