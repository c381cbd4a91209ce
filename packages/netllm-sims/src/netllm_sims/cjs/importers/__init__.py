"""Importers: public traces of clusters, written as jobs that a setting reads.

    from netllm_sims.cjs import importers

    done = importers.run("helios", ["Venus/cluster_log.csv"], "mine")
    cjs.setting("default", **done.settings)

`IMPORTERS` says what there is. None of these traces tells which task waits for which, so a job is
one stage of equal tasks. Each is a module with one function, `jobs(files)`, which gives the jobs
that ran to their end and how many did not. Their docstrings say where the format is described, and
how it is read.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from netllm_sims.cjs.importers._batch_task import TraceJob, write_jobs
from netllm_sims.cjs.settings import Setting
from netllm_sims.files.imported import Imported
from netllm_sims.files.new_folder import new_folder
from netllm_sims.setting_values import unknown

LOAD = 0.8
"""Share of a setting's usual executors that jobs keep busy at the suggested rate of arrivals."""


class Importer(NamedTuple):
    """One source of data."""

    module: str
    """Name of its module here."""
    summary: str
    """What it reads, in a line."""
    makes: str = "jobs"
    """What it writes."""


IMPORTERS = {
    "philly": Importer("philly", "cluster_job_log of Microsoft's Philly (2017), a task per GPU"),
    "helios": Importer("helios", "cluster_log.csv of SenseTime's Helios (2020), a task per GPU"),
    "google-2011": Importer(
        "google_2011", "task_events/part-?????-of-00500.csv.gz of Google's trace of 2011"
    ),
}
"""Importers by name."""


def run(name: str, files: Iterable[str | Path], out: str | Path) -> Imported:
    """Read files of a source, and write their jobs into a new folder, as a `batch_task.csv`.

    The settings of the result have arrivals at which the usual number of executors is busy for
    `LOAD` of the time: the trace's own cluster has another size.

    Args:
        name: A name of `IMPORTERS`.
        files: The files, packed or not.
        out: The folder; it must not exist, or be empty. It appears when it is complete.

    Raises:
        ValueError: Unknown name, no files, or one that cannot be read or has no job that ran to its
            end; names file, line and remedy.
        FileExistsError: The folder holds something.
    """
    if name not in IMPORTERS:
        raise ValueError(unknown("importer", name, list(IMPORTERS)))
    paths, out = [Path(file) for file in files], Path(out)
    if not paths:
        raise ValueError(f"`{name}` must be given at least one file, got 0.")
    module = import_module(f"{__name__}.{IMPORTERS[name].module}")
    with new_folder(out) as folder:
        jobs, left_out = module.jobs(paths)
        if not jobs:
            raise ValueError(
                f"{paths[0]}: must hold at least one job that ran to its end, got {left_out} "
                "that did not."
            )
        write_jobs(folder / "batch_task.csv", jobs)
    return Imported(out, len(jobs), left_out, {"jobs": str(out)} | _arrivals(jobs))


def _arrivals(jobs: list[TraceJob]) -> dict[str, str]:
    work_s = sum(job.tasks * job.duration_s for job in jobs) / len(jobs)
    wait_ms = round(work_s * 1e3 / (LOAD * Setting.num_executors))
    return {"mean_interarrival_ms": str(wait_ms)} if wait_ms else {}
