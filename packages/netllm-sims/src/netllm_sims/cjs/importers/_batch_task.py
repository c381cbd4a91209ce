"""Jobs of one stage, in the format of Alibaba's `batch_task`, which settings read."""

import csv
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from netllm_sims.cjs.dag import MOST_TASKS

_DATE = "%Y-%m-%d %H:%M:%S"


class TraceJob(NamedTuple):
    """A job that ran to its end."""

    where: str
    """File and line or place, for errors."""
    name: str
    """What the trace calls it."""
    tasks: int
    """How many equal tasks it has."""
    submitted_s: float
    """When it came, in s after the trace's zero."""
    duration_s: float
    """How long each task takes."""


def write_jobs(file: Path, jobs: Iterable[TraceJob]) -> None:
    """Write each job as one row, a task `M1` without parents, in the order in which they came.

    Raises:
        ValueError: Two jobs of one name, or one that no simulator could run; with file and line.
    """
    places: dict[str, str] = {}
    with file.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        for job in sorted(jobs, key=lambda job: job.submitted_s):
            name = re.sub(r"[^A-Za-z0-9._-]+", "_", job.name)[:100]
            if name in places:
                raise ValueError(
                    f"{job.where}: there must be one job {name}, got another at {places[name]}. "
                    "Import each cluster into a folder of its own."
                )
            places[name] = job.where
            if not (1 <= job.tasks <= MOST_TASKS and job.submitted_s > 0 <= job.duration_s):
                raise ValueError(
                    f"{job.where}: a job must have at least one task and at most {MOST_TASKS}, "
                    "come after the trace's beginning and end after it started, got "
                    f"{job.tasks} tasks, {job.submitted_s:g} s and {job.duration_s:g} s."
                )
            end_s = job.submitted_s + job.duration_s
            times = (repr(time_s) for time_s in (job.submitted_s, end_s))
            rows.writerow(["M1", job.tasks, name, 1, "Terminated", *times, "", ""])


def seconds(where: str, name: str, text: str) -> float:
    """Seconds from 1970 to a date and time, as if it were in UTC.

    Raises:
        ValueError: No date and time after 1970.
    """
    try:
        time_s = datetime.strptime(text, _DATE).replace(tzinfo=UTC).timestamp()
    except ValueError:
        time_s = 0.0
    if time_s <= 0:
        raise ValueError(
            f"{where}: `{name}` must be a date and time after 1970, as 2020-06-09 18:41:01, got "
            f"{text!r:.60}. Correct or remove it."
        )
    return time_s
