"""Helios: jobs of deep learning on SenseTime's GPU clusters in 2020."""

from collections.abc import Iterable
from pathlib import Path

from netllm_sims.cjs.importers._batch_task import TraceJob, seconds
from netllm_sims.cjs.job_files.record_limit import RecordLimit
from netllm_sims.files.csv_rows import number, rows

_COLUMNS = ("job_id", "gpu_num", "state", "submit_time", "duration")
_ROW_BYTES = 500


def jobs(files: Iterable[Path]) -> tuple[list[TraceJob], int]:
    """The jobs of `cluster_log.csv` that are COMPLETED and use GPUs, and how many are not.

    A job is a stage of `gpu_num` tasks, which take `duration` each and come at `submit_time`. In
    the cluster they ran at the same time; here they need not.

    Raises:
        ValueError: Another header, or a row that is no such job; with file and line.

    Source: Hu et al.: Characterization and Prediction of Deep Learning Workloads in Large-Scale GPU
        Datacenters (SC 2021); README of S-Lab-System-Group/HeliosData.
    """
    found: list[TraceJob] = []
    left_out = 0
    room = RecordLimit("jobs of a trace", _ROW_BYTES)
    for path in files:
        for line, (job, gpus, state, submitted, duration) in rows(path, _COLUMNS):
            where = f"{path}:{line}"
            count = number(path, line, "gpu_num", gpus, least=0)
            if not count.is_integer():
                raise ValueError(f"{where}: `gpu_num` must be a whole number, got {gpus!r:.60}.")
            if state != "COMPLETED" or not count:
                left_out += 1
                continue
            took_s = number(path, line, "duration", duration, least=0)
            came_s = seconds(where, "submit_time", submitted)
            found.append(TraceJob(where, job, int(count), came_s, took_s))
            room.check(where, len(found))
    return found, left_out
