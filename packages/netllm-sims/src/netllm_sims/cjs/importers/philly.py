"""Philly: jobs of deep learning on Microsoft's GPU cluster in 2017."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from netllm_sims.cjs.importers._batch_task import TraceJob, seconds
from netllm_sims.files.json_reading import decode_json


class _Server(msgspec.Struct):
    gpus: list[str]


class _Attempt(msgspec.Struct):
    start_time: str | None
    end_time: str | None
    detail: list[_Server]


class _Job(msgspec.Struct):
    status: Literal["Pass", "Killed", "Failed"]
    jobid: str
    attempts: list[_Attempt]
    submitted_time: str


def jobs(files: Iterable[Path]) -> tuple[list[TraceJob], int]:
    """The jobs of `cluster_job_log` that passed, and how many did not or lack a time.

    A job is a stage of as many tasks as its last attempt had GPUs, which take as long as this
    attempt and come when the job was submitted. In the cluster they ran at the same time; here they
    need not. Times are read as they stand: the hour by which clocks were set back is not known.

    Raises:
        ValueError: Another JSON, a time that is none, or an attempt that ends before it starts;
            with file, and line or place in the document.

    Source: Jeon et al.: Analysis of Large-Scale Multi-Tenant GPU Clusters for DNN Training
        Workloads (USENIX ATC 2019); README of msr-fiddle/philly-traces.
    """
    found: list[TraceJob] = []
    left_out = 0
    for path in files:
        for place, job in enumerate(decode_json(path, list[_Job])):
            last = job.attempts[-1] if job.attempts else _Attempt(None, None, [])
            gpus = sum(len(server.gpus) for server in last.detail)
            start, end = (_known(time) for time in (last.start_time, last.end_time))
            if job.status != "Pass" or not (gpus and start and end):
                left_out += 1
                continue
            where = f"{path}: at $[{place}]"
            took_s = seconds(where, "end_time", end) - seconds(where, "start_time", start)
            came_s = seconds(where, "submitted_time", job.submitted_time)
            found.append(TraceJob(where, job.jobid, gpus, came_s, took_s))
    return found, left_out


def _known(time: str | None) -> str:
    return "" if time is None or time == "None" else time
