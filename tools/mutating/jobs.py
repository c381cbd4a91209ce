"""The loaders of jobs for a cluster, and what their files say."""

from __future__ import annotations

import csv
import gzip
import io
import json
from math import inf
from pathlib import Path
from typing import Any

from mutating.files import NUMBER, text_of, written
from mutating.judging import Subject, Untold, Wrong


def _events() -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for job in range(3):
        stages = [(10 * job + k, 3 + k, [10 * job + k - 1] if k else []) for k in range(3)]
        infos = [{"Stage ID": s, "Number of Tasks": n, "Parent IDs": p} for s, n, p in stages]
        events.append({"Event": "SparkListenerJobStart", "Job ID": job, "Stage Infos": infos})
        for stage, tasks, _ in stages:
            for task in range(tasks):
                launch = 1_000 * stage + task * 10
                info = {
                    "Launch Time": launch,
                    "Finish Time": launch + 70 + task,
                    "Executor ID": str(task % 2),
                }
                end = {"Event": "SparkListenerTaskEnd", "Stage ID": stage, "Task Info": info}
                events.append(end)
            done = {"Event": "SparkListenerStageCompleted", "Stage Info": {"Stage ID": stage}}
            events.append(done)
        result = {"Result": "JobSucceeded"}
        events.append({"Event": "SparkListenerJobEnd", "Job ID": job, "Job Result": result})
    return events


def _make_spark(*, packed: bool) -> Any:
    def make(folder: Path) -> Path:
        text = "".join(json.dumps(event) + "\n" for event in _events()).encode()
        (folder / "app-1").write_bytes(gzip.compress(text, 1, mtime=0) if packed else text)
        return folder / "app-1"

    return make


def _make_rolled(folder: Path) -> Path:
    log = folder / "eventlog_v2_app-1"
    log.mkdir()
    lines = [json.dumps(event) + "\n" for event in _events()]
    for number, some in enumerate((lines[:15], lines[15:30], lines[30:]), 1):
        (log / f"events_{number}_app-1").write_text("".join(some))
    return log


def _dag(dag: Any) -> Any:
    durations = sorted(set(dag.durations_ms.tolist()))
    return [dag.tasks.tolist(), sorted(dag.edges.tolist()), durations]


def _dags(path: Path) -> Any:
    from netllm_sims.cjs.job_files.loading import load_dags

    return [_dag(dag) for dag in load_dags(path)]


def _log_says(path: Path) -> Any:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    raw = [file.read_bytes() for file in files]
    texts = [gzip.decompress(one) if one[:2] == b"\x1f\x8b" else one for one in raw]
    events = [json.loads(line) for text in texts for line in text.split(b"\n") if line]
    jobs: dict[int, dict[int, Any]] = {}
    owner: dict[int, int] = {}
    ran: set[int] = set()
    whole: set[int] = set()
    durations: dict[int, list[float]] = {}
    for event in events:
        kind = event["Event"].removeprefix("SparkListener")
        if kind == "JobStart":
            jobs[event["Job ID"]] = {i["Stage ID"]: i for i in event["Stage Infos"]}
            for stage in jobs[event["Job ID"]]:
                owner.setdefault(stage, event["Job ID"])
        elif kind == "TaskEnd":
            info = event["Task Info"]
            if not info.get("Failed") and not info.get("Killed"):
                lasted = info["Finish Time"] - info["Launch Time"]
                durations.setdefault(event["Stage ID"], []).append(float(lasted))
        elif kind == "StageCompleted" and "Failure Reason" not in event["Stage Info"]:
            ran.add(event["Stage Info"]["Stage ID"])
        elif kind == "JobEnd":
            result = event.get("Job Result")
            failed = isinstance(result, dict) and result.get("Result") != "JobSucceeded"
            (whole.discard if failed else whole.add)(event["Job ID"])
    return [
        _stages(
            job, [s for s in sorted(jobs[job]) if s in ran and owner[s] == job], jobs, durations
        )
        for job in sorted(whole & jobs.keys())
        if all(s in durations for s in jobs[job] if s in ran and owner[s] == job)
        and any(s in ran and owner[s] == job for s in jobs[job])
    ]


def _stages(job: int, stages: list[int], jobs: Any, durations: dict[int, list[float]]) -> Any:
    infos = [jobs[job][stage] for stage in stages]
    edges = {
        (stages.index(p), stages.index(i["Stage ID"]))
        for i in infos
        for p in i["Parent IDs"]
        if p in stages
    }
    lasted = sorted({one for stage in stages for one in durations[stage]})
    return [[i["Number of Tasks"] for i in infos], sorted(map(list, edges)), lasted]


_BATCH = "".join(
    f"{name},{2 + job},j_{job},1,Terminated,{100 + 10 * job + 3 * k},{120 + 10 * job + 7 * k},9,1\n"
    for job in range(6)
    for k, name in enumerate(("M1", "R2_1", "J3_1_2", "task_abc"))
)


def _batch(path: Path) -> Any:
    from netllm_sims.cjs.job_files.alibaba import load_alibaba

    return [[job.arrival_ms, *_dag(job.dag)] for job in load_alibaba(path).jobs]


def _batch_says(path: Path) -> Any:
    jobs: dict[str, list[list[str]]] = {}
    for row in csv.reader(io.StringIO(text_of(path), newline="")):
        if row and row[0] != "task_name":
            if len(row) != 9:
                raise Wrong("a row has not nine columns")
            jobs.setdefault(row[2], []).append(row)
    told = []
    for rows in jobs.values():
        spans = [(float(row[5] or 0), float(row[6] or 0)) for row in rows]
        if all(r[4] == "Terminated" for r in rows) and all(0 < s <= e < inf for s, e in spans):
            number = {_own(r[0])[0]: k for k, r in enumerate(rows) if _own(r[0])}
            edges = {(number[p], k) for k, r in enumerate(rows) for p in _own(r[0])[1:]}
            lasted = sorted({(e - s) * 1e3 for s, e in spans})
            graph = [[int(row[1]) for row in rows], sorted(map(list, edges)), lasted]
            told.append((min(s for s, _ in spans), graph))
    told.sort(key=lambda pair: pair[0])
    return [[(start - told[0][0]) * 1e3, *graph] for start, graph in told]


def _own(name: str) -> list[int]:
    """Number of a task and of its parents; nothing where its name tells none."""
    first, *rest = name.split("_")
    digits = first.lstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    plain = digits.isascii() and digits.isdigit() and digits != first
    return [int(digits), *map(int, rest)] if plain and all(r.isdigit() for r in rest) else []


def _make_tpch(folder: Path) -> Path:
    from netllm_sims.cjs.tpch import QUERIES, SIZES

    def stage(k: int) -> dict[str, Any]:
        levels = [5, 50]
        return {
            "fresh_durations": [[n, [100 + k]] for n in levels],
            "first_wave": [[n, [100 + k, 80 + n, 81]] for n in levels],
            "rest_wave": [[n, [60 + n, 61]] for n in levels],
        }

    entry = {"edges": [[0, 1]], "stages": [stage(0), stage(1)]}
    sizes = {size: {str(q): entry for q in range(1, QUERIES + 1)} for size in SIZES}
    file = folder / "tpch.json.gz"
    file.write_bytes(gzip.compress(json.dumps(sizes).encode(), 1, mtime=0))
    return file


def _tpch_says(path: Path) -> Any:
    sizes = json.loads(gzip.decompress(path.read_bytes()))
    return [_profile(query) for queries in sizes.values() for query in queries.values()]


def _profile(entry: Any) -> Any:
    tasks, lasted = [], set()
    for stage in entry["stages"]:
        lists = [dict(map(tuple, stage[n])) for n in ("first_wave", "rest_wave", "fresh_durations")]
        if len({tuple(one) for one in lists}) != 1:
            raise Untold("some lists stand in for others")
        first, rest, _ = lists
        key = next(iter(first))
        tasks.append(len(first[key]) + len(rest[key]))
        lasted |= {float(v) for some in lists for values in some.values() for v in values}
    return [tasks, sorted(entry["edges"]), sorted(lasted)]


def _make_arrays(folder: Path) -> Path:
    import numpy as np

    size = folder / "profiles" / "2g"
    size.mkdir(parents=True)
    for query in (1, 2):
        matrix = np.zeros((2, 2), np.int64)
        matrix[0, 1] = 1
        np.save(size / f"adj_mat_{query}.npy", matrix)
        waves = {"fresh_durations": {5: [90]}, "first_wave": {5: [90, 80]}, "rest_wave": {5: [60]}}
        stages = np.array(dict.fromkeys(range(2), waves), dtype=object)
        np.save(size / f"task_duration_{query}.npy", stages, allow_pickle=True)
    return folder / "profiles"


def _structure(dags: Any) -> Any:
    return [len(dags), [len(dag[0]) for dag in dags]]


SUBJECTS = {
    "cjs-spark": Subject(
        {"*": "json"}, _make_spark(packed=False), _dags, NUMBER + "; fields unknown are ignored",
        _log_says,
    ),
    "cjs-spark-gzip": Subject(
        {"*": "gzip:json"}, _make_spark(packed=True), _dags, NUMBER, _log_says
    ),
    "cjs-spark-rolled": Subject(
        {"*": "json"}, _make_rolled, _dags, NUMBER, _log_says, related=True
    ),
    "cjs-alibaba": Subject(
        {"*": "text"}, written("batch_task.csv", _BATCH), _batch,
        NUMBER + "; jobs that never ran to their end are left out", _batch_says,
    ),
    "cjs-tpch": Subject({"*": "gzip:json"}, _make_tpch, _dags, NUMBER, _tpch_says),
    "cjs-arrays": Subject(
        {"*.npy": "npy"}, _make_arrays, _dags, "as many jobs and stages", shape=_structure,
        related=True,
    ),
}  # fmt: skip
