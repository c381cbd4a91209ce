"""Time and peak memory of reading large files: a trace, a log of Spark, and a zip bomb, refused.

    python benchmarks/reading.py [--quick] [--json FILE]

The script makes the files itself, in a temporary folder: a trace of 10^7 lines, a gzipped event log
of 10^6 tasks, and a zip archive of which one member unpacks to 3 GB. Each is read in a process of
its own; the time is that of reading alone, the memory the largest that the process ever held, next
to that of a process which only imports what reads.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from netllm_adapt.processor import processor
from netllm_sims.abr import load_trace
from netllm_sims.cjs.job_files.spark import load_spark
from netllm_sims.vp import load_trajectories

_BLOCK = 100_000
_TASKS_OF_STAGE = 1_000


def make_trace(file: Path, lines: int) -> None:
    with file.open("w") as out:
        for first in range(0, lines, _BLOCK):
            numbers = range(first, min(first + _BLOCK, lines))
            out.write("".join(f"{i * 0.5:.1f} {1 + i % 97 * 0.05:.3f}\n" for i in numbers))


def make_log(file: Path, tasks: int) -> None:
    stages = range(tasks // _TASKS_OF_STAGE)
    infos = [
        {"Stage ID": stage, "Number of Tasks": _TASKS_OF_STAGE, "Parent IDs": []}
        for stage in stages
    ]
    with gzip.open(file, "wt", compresslevel=1) as out:

        def tell(event: str, **fields: Any) -> None:
            out.write(json.dumps({"Event": f"SparkListener{event}", **fields}) + "\n")

        for stage in stages:
            tell("JobStart", **{"Job ID": stage, "Stage Infos": [infos[stage]]})
            for task in range(_TASKS_OF_STAGE):
                launch_ms = 1_700_000_000_000 + stage * 1_000 + task
                info = {"Launch Time": launch_ms, "Finish Time": launch_ms + 50 + task % 7}
                info |= {"Executor ID": str(task % 16), "Host": "node", "Failed": False}
                tell("TaskEnd", **{"Stage ID": stage, "Task Info": info})
            tell("StageCompleted", **{"Stage Info": {"Stage ID": stage}})
            tell("JobEnd", **{"Job ID": stage, "Job Result": {"Result": "JobSucceeded"}})


def make_bomb(file: Path, megabytes: int) -> None:
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("video/user.csv", "w", force_zip64=True) as member,
    ):
        for _ in range(megabytes):
            member.write(bytes(1_000_000))


def refuse(file: Path) -> None:
    try:
        load_trajectories(file, rate_hz=5.0)
    except ValueError as fault:
        if file.name not in str(fault):
            raise
    else:
        raise SystemExit(f"{file}: must be refused, got loaded.")


READERS: dict[str, Callable[[Path], Any]] = {
    "imports alone": lambda file: None,
    "trace": load_trace,
    "spark log, gzip": load_spark,
    "zip bomb, refused": refuse,
}


def read(name: str, file: Path) -> None:
    """Read a file and print what it took: what the measured process runs."""
    start = time.perf_counter()
    READERS[name](file)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))


def measured(name: str, file: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--read", name, str(file)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    size_mb = file.stat().st_size / 1e6 if file.is_file() else 0.0
    return {"file_mb": size_mb, **json.loads(answer)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="files of a twentieth")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--read", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        read(args.read[0], Path(args.read[1]))
        return
    share = 20 if args.quick else 1
    lines, tasks, megabytes = 10**7 // share, 10**6 // share, 3_000 // share
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name.split()[0] for name in READERS}
        make_trace(files["trace"], lines)
        make_log(files["spark log, gzip"], tasks)
        make_bomb(files["zip bomb, refused"], megabytes)
        rows = {name: measured(name, file) for name, file in files.items()}
    print(f"{lines:,} lines, {tasks:,} tasks, {megabytes:,} MB unpacked; {processor()}")
    print(f"{'':20}{'file MB':>10}{'s':>10}{'peak MB':>10}")
    for name, row in rows.items():
        print(f"{name:20}{row['file_mb']:>10,.1f}{row['seconds']:>10.2f}{row['peak_mb']:>10,.0f}")
    if args.json:
        sizes = {"lines": lines, "tasks": tasks, "unpacked_mb": megabytes}
        document = {"cpu": processor(), **sizes, "rows": rows}
        args.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
