"""Jobs of Alibaba's cluster-trace-v2018, whose task names encode the graph."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from netllm_sims.cjs.dag import Dag, Waves, build
from netllm_sims.cjs.jobs import Job, Workload

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


@dataclass(frozen=True)
class _Row:
    line: int
    task: str
    instances: int
    job: str
    start_s: float
    end_s: float


def load_alibaba(file: str | Path) -> Workload:
    """Jobs of a `batch_task` file, in order of their starts, the first at 0.

    Columns without a header: task_name, instance_num, job_name, task_type, status, start_time,
    end_time, plan_cpu, plan_mem. A task is a stage with `instance_num` tasks. Its name gives its
    number and its parents: `M1`, `R2_1`, `J3_1_2`; other names (`task_…`, `MergeTask`) have no
    parents. The trace gives no durations of single instances, so each lasts as long as the whole
    stage took. Jobs with a task that is not `Terminated`, or that ends before it starts, never
    ran to their end and are left out.

    Args:
        file: The CSV.

    Raises:
        ValueError: A line that is no such row, a parent that the job lacks, or no complete job;
            with file and line.

    Source: Alibaba cluster-trace-v2018, schema of `batch_task`.
    """
    file = Path(file)
    jobs: dict[str, list[_Row]] = {}
    broken: set[str] = set()
    for row, terminated in _rows(file):
        jobs.setdefault(row.job, []).append(row)
        if not terminated:
            broken.add(row.job)
    complete = [rows for job, rows in jobs.items() if job not in broken]
    whole = [(min(row.start_s for row in rows), rows) for rows in complete]
    if not whole:
        raise ValueError(f"{file}: must hold at least one job that ran to its end, got none.")
    whole.sort(key=lambda pair: pair[0])
    zero_s = whole[0][0]
    return Workload([Job(_dag(file, rows), (start_s - zero_s) * 1e3) for start_s, rows in whole])


def _rows(file: Path) -> Iterator[tuple[_Row, bool]]:
    with file.open(newline="") as stream:
        for number, cells in enumerate(csv.reader(stream), start=1):
            if not cells or (number == 1 and cells[0] == _COLUMNS[0]):
                continue
            if len(cells) != len(_COLUMNS):
                raise ValueError(
                    f"{file}, line {number}: must hold the {len(_COLUMNS)} columns "
                    f"{', '.join(_COLUMNS)}, got {len(cells)}. Was the file cut?"
                )
            task, instances, job, _, status, start, end, *_ = cells
            try:
                row = _Row(number, task, int(instances), job, float(start or 0), float(end or 0))
            except ValueError as fault:
                raise ValueError(
                    f"{file}, line {number}: instance_num, start_time and end_time must be "
                    f"numbers, got {instances!r}, {start!r} and {end!r}."
                ) from fault
            if row.instances < 1:
                raise ValueError(
                    f"{file}, line {number}: a stage must have at least one task, "
                    f"got instance_num {instances}."
                )
            yield row, status == "Terminated" and 0 < row.start_s <= row.end_s


def _dag(file: Path, rows: list[_Row]) -> Dag:
    names = [_NAME.fullmatch(row.task) for row in rows]
    stage_of = {int(name[1]): stage for stage, name in enumerate(names) if name is not None}
    edges = []
    for stage, (row, name) in enumerate(zip(rows, names, strict=True)):
        parents = [] if name is None else [int(part) for part in name[2].split("_") if part]
        for parent in parents:
            if parent not in stage_of:
                raise ValueError(
                    f"{file}, line {row.line}: task `{row.task}` of job `{row.job}` names the "
                    f"parent {parent}, which the job lacks."
                )
            edges.append((stage_of[parent], stage))
    waves = [Waves.same(row.instances, [(row.end_s - row.start_s) * 1e3]) for row in rows]
    return build(rows[0].job, waves, dict.fromkeys(edges))
