"""Jobs of Alibaba's cluster-trace-v2018, whose task names encode the graph."""

import csv
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import median

from netllm_sims.cjs.dag import MOST_TASKS, Cycle, Dag, Waves, build, of
from netllm_sims.cjs.job_files.record_limit import RecordLimit
from netllm_sims.cjs.jobs import Job, Workload
from netllm_sims.files import reading, unit_warnings
from netllm_sims.files.unit_warnings import Doubt

_log = logging.getLogger(__name__)

_COLUMNS = (
    "task_name",
    "instance_num",
    "job_name",
    "task_type",
    "status",
    "start_time",
    "end_time",
    "plan_cpu",
    "plan_mem",
)
_NAME = re.compile(r"[A-Za-z]+(\d+)((?:_\d+)*)(?:_Stg\d+)?")


_ROW_BYTES = 2_000
_MOST_USUAL_S = 86_400.0


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    task: str
    instances: int
    job: str
    start_s: float
    end_s: float
    fault: str
    """Why the job never ran to its end, or empty."""


def load_alibaba(file: str | Path) -> Workload:
    """Jobs of a `batch_task` file, in order of their starts, the first at 0.

    Columns without a header: task_name, instance_num, job_name, task_type, status, start_time,
    end_time, plan_cpu, plan_mem. A task is a stage with `instance_num` tasks. Its name gives its
    number and its parents: `M1`, `R2_1`, `J3_1_2`; other names (`task_…`, `MergeTask`) have no
    parents. The trace gives no durations of single instances, so each lasts as long as the whole
    stage took. Jobs with a task that is not `Terminated`, that lacks a time or that ends before it
    starts never ran to their end and are left out; a warning of this module's logger counts them.

    Args:
        file: The CSV.

    Raises:
        ValueError: More rows than the limit of `reading` admits, a line that is no such row, a
            parent that the job lacks, two tasks of a job with
            one number, tasks that wait for one another, or no complete job; with file and line.

    Source: Alibaba cluster-trace-v2018, schema of `batch_task`.
    """
    file = Path(file)
    jobs: dict[str, list[_Row]] = {}
    broken: dict[str, _Row] = {}
    room = RecordLimit("rows of a trace", _ROW_BYTES)
    for count, row in enumerate(_rows(file), 1):
        room.check(f"{file}, line {row.line}", count)
        jobs.setdefault(row.job, []).append(row)
        if row.fault:
            broken.setdefault(row.job, row)
    some = _count(list(broken.values()))
    unit_warnings.warn(
        file, list(_odd([row for rows in jobs.values() for row in rows if not row.fault]))
    )
    complete = [rows for job, rows in jobs.items() if job not in broken]
    starts = [(min(row.start_s for row in rows), rows) for rows in complete]
    if not starts:
        raise ValueError(f"{file}: must hold at least one job that ran to its end, got {some}.")
    starts.sort(key=lambda pair: pair[0])
    zero_s = starts[0][0]
    whole = [Job(_dag(file, rows), (start_s - zero_s) * 1e3) for start_s, rows in starts]
    if broken:
        _log.warning("%s: %d of %d jobs were left out: %s.", file, len(broken), len(jobs), some)
    return Workload(whole)


def _odd(rows: list[_Row]) -> Iterator[Doubt]:
    """What looks like milliseconds in place of seconds."""
    usual_s = median(row.end_s - row.start_s for row in rows) if rows else 0.0
    if usual_s > _MOST_USUAL_S:
        yield Doubt(
            f"half of the tasks last {usual_s:,.0f} s or more",
            "times in seconds, and tasks shorter than a day",
            "If start_time and end_time are ms, divide them by 1,000.",
        )


def _count(broken: list[_Row]) -> str:
    """How many jobs have which fault, and where the first one stands."""
    lines: dict[str, list[int]] = {}
    for row in broken:
        lines.setdefault(row.fault, []).append(row.line)
    parts = [f"{len(some)} with a task {fault} (line {some[0]})" for fault, some in lines.items()]
    return ", ".join(parts) or "none"


def _rows(file: Path) -> Iterator[_Row]:
    """The rows; a mark of their encoding and a header are passed over."""
    with reading.opened(file) as stream:
        reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
        try:
            for number, cells in enumerate(reader):
                if cells and not (number == 0 and cells[0] == _COLUMNS[0]):
                    yield _row(f"{file}, line {reader.line_num}", reader.line_num, cells)
        except (UnicodeDecodeError, csv.Error) as fault:
            raise ValueError(
                f"{file}, after line {reader.line_num}: must be CSV in UTF-8, but {fault}."
            ) from fault


def _row(where: str, line: int, cells: list[str]) -> _Row:
    if len(cells) != len(_COLUMNS):
        raise ValueError(
            f"{where}: must hold the {len(_COLUMNS)} columns {', '.join(_COLUMNS)}, "
            f"got {len(cells)}. Was the file cut?"
        )
    task, instances, job, _, status, start, end, *_ = cells
    try:
        count, start_s, end_s = int(instances), float(start or 0), float(end or 0)
    except ValueError as fault:
        raise ValueError(
            f"{where}: instance_num, start_time and end_time must be numbers, got "
            f"{instances!r:.60}, {start!r:.60} and {end!r:.60}."
        ) from fault
    if not 1 <= count <= MOST_TASKS:
        raise ValueError(
            f"{where}: a stage must have at least one task, and at most {MOST_TASKS}, "
            f"got instance_num {instances:.60}."
        )
    return _Row(line, task, count, job, start_s, end_s, _fault(status, start_s, end_s))


def _fault(status: str, start_s: float, end_s: float) -> str:
    if status != "Terminated":
        return "that is not `Terminated`"
    if not (isfinite(start_s) and isfinite(end_s)):
        return "whose start_time or end_time is not finite"
    if start_s <= 0 or end_s == 0:
        return "whose start_time or end_time is missing, or start_time negative"
    return "that ends before it starts" if end_s < start_s else ""


def _number(digits: str) -> str:
    """The number of a task, which may have any length, in one form."""
    return digits.lstrip("0") or "0"


def _stages(file: Path, rows: list[_Row], names: list[re.Match[str] | None]) -> dict[str, int]:
    """Row of each numbered task."""
    stage_of: dict[str, int] = {}
    for stage, (row, name) in enumerate(zip(rows, names, strict=True)):
        if name is None:
            continue
        first = rows[stage_of.setdefault(_number(name[1]), stage)]
        if first is not row:
            raise ValueError(
                f"{file}, line {row.line}: task `{row.task:.60}` of job `{row.job:.60}` must have "
                f"a number of its own, but `{first.task:.60}` in line {first.line} has it."
            )
    return stage_of


def _dag(file: Path, rows: list[_Row]) -> Dag:
    names = [_NAME.fullmatch(row.task) for row in rows]
    stage_of = _stages(file, rows, names)
    edges = []
    for stage, (row, name) in enumerate(zip(rows, names, strict=True)):
        parents = [] if name is None else [_number(part) for part in name[2].split("_") if part]
        for parent in parents:
            if parent not in stage_of:
                raise ValueError(
                    f"{file}, line {row.line}: task `{row.task:.60}` of job `{row.job:.60}` names "
                    f"the parent {parent:.60}, which the job lacks."
                )
            edges.append((stage_of[parent], stage))
    waves = [Waves.same(row.instances, [(row.end_s - row.start_s) * 1e3]) for row in rows]
    with of(file):
        try:
            return build(rows[0].job, waves, dict.fromkeys(edges))
        except Cycle as fault:
            circle = [rows[stage] for stage in fault.stages]
    some = ", ".join(f"`{row.task:.60}` (line {row.line})" for row in circle[:10])
    raise ValueError(
        f"{file}, line {circle[0].line}: the tasks of job `{rows[0].job:.60}` must form no cycle, "
        f"but {some} wait for one another."
    )
