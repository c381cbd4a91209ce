"""The loaders of traces, videos, pointers, head movement and jobs, and what their files say."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mutating.judging import Subject, Wrong

_NUMBER = "a changed number that is still plausible is another input; all else must be told"


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8-sig")


def _told(path: Path) -> list[str]:
    """The lines that are neither blank nor comments."""
    lines = [line.strip() for line in _text(path).replace("\r\n", "\n").split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


# Bandwidth traces -------------------------------------------------------------------------------


def _trace(path: Path) -> Any:
    from netllm_sims.abr import load_trace

    trace = load_trace(path)
    return {"s": trace.time_s.tolist(), "mbps": trace.bandwidth_mbps.tolist()}


def _packets(path: Path) -> Any:
    trace = _trace(path)
    times, rates = trace["s"], trace["mbps"]
    megabits = sum((b - a) * r for a, b, r in zip(times, times[1:], rates[1:], strict=False))
    return {"s": times[-1], "megabits": megabits}


def _columns(path: Path) -> Any:
    points = [line.split() for line in _told(path)]
    if any(len(point) != 2 for point in points):
        raise Wrong("a line has not two columns")
    return {"s": [float(p[0]) for p in points], "mbps": [float(p[1]) for p in points]}


def _header_table(path: Path) -> Any:
    first, *lines = _told(path)
    mark = next(one for one in ",;\t" if one in first)
    names, *rows = csv.reader([first, *lines], delimiter=mark)
    names = [name.strip().lower() for name in names]
    if any(len(row) != len(names) for row in rows):
        raise Wrong("a line has not as many columns as the header")
    time, rate = names.index("time_s"), names.index("bandwidth_kbps")
    return {
        "s": [float(row[time]) for row in rows],
        "mbps": [float(row[rate]) / 1e3 for row in rows],
    }


def _milliseconds(path: Path) -> Any:
    times = [int(line) for line in _told(path)]
    return {"s": times[-1] / 1e3, "megabits": len(times) * 1500 * 8e-6}


def _written(name: str, text: str) -> Any:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


_POINTS = [(0.5 * i, 0.7 + (i * 37 % 11) / 4) for i in range(40)]
_COOKED = "".join(f"{s:.3f}\t{mbps:.4f}\n" for s, mbps in _POINTS)
_KBPS = "session,time_s,bandwidth_kbps\n" + "".join(f"a,{s},{m * 1e3:.1f}\n" for s, m in _POINTS)
_MAHIMAHI = "".join(f"{i * 7}\n" for i in range(1, 300))


# Videos -----------------------------------------------------------------------------------------


def _make_video(folder: Path) -> Path:
    video = folder / "video"
    video.mkdir()
    for level in range(6):
        sizes = [(level + 1) * 90_000 + 1_000 * (i * 13 % 17) for i in range(12)]
        (video / f"video_size_{level}").write_text("".join(f"{size}\n" for size in sizes))
    return video


def _video(folder: Path) -> Any:
    from netllm_sims.abr import load_video

    return load_video(folder).sizes_bytes.tolist()


def _sizes(folder: Path) -> Any:
    columns = []
    for level in range(6):
        text = _text(folder / f"video_size_{level}")
        columns.append([float(line) for line in text.split("\n") if line.strip()])
    return [list(row) for row in zip(*columns, strict=True)]


# Start pointers ---------------------------------------------------------------------------------


def _make_published(folder: Path) -> Path:
    traces = folder / "abr" / "traces"
    (traces / "fcc-test").mkdir(parents=True)
    names = [f"trace_{i:02d}" for i in range(12)]
    for name in names:
        (traces / "fcc-test" / name).write_text(_COOKED)
    document = {"description": "starts", "ptrs": [3 + 2 * i for i in range(12)], "files": names}
    file = traces / "fcc-test_mahimahi_ptrs.json"
    file.write_text(json.dumps(document, indent=0))
    return folder


def _published(data: Path) -> Any:
    from netllm_sims.abr import parts

    return [[session.id, session.start_s] for session in parts.published(data, "fcc-test")]


def _starts(data: Path) -> Any:
    traces = data / "abr" / "traces"
    document = json.loads(_text(traces / "fcc-test_mahimahi_ptrs.json"))
    names, pointers = sorted(p.name for p in (traces / "fcc-test").iterdir()), document["ptrs"]
    if document["files"] != names:
        raise Wrong("the files are others")
    if any(type(p) is not int or not 1 <= p < len(_POINTS) for p in pointers):
        raise Wrong("a pointer is none")
    return [[n, _POINTS[p - 1][0]] for n, p in zip(names, pointers, strict=True)]


# Head movement ----------------------------------------------------------------------------------

_HEADS = [(0.2 * i, 2.0 - 0.1 * i, 10 - 0.3 * i, -170.0 + 1.5 * i) for i in range(30)]
_ANGLES = "".join(f"{s:.1f},{r:.3f},{p:.3f},{y:.3f}\n" for s, r, p, y in _HEADS)
_TURNS = "time_s,qx,qy,qz,qw\n" + "".join(
    f"{s:.1f},0.0,{(a := 0.01 * i):.9f},0.0,{(1 - round(a, 9) ** 2) ** 0.5:.9f}\n"
    for i, (s, *_) in enumerate(_HEADS)
)


def _make_heads(text: str, *, packed: bool) -> Any:
    def make(folder: Path) -> Path:
        root = folder / "heads"
        names = [f"video{v}/user{u}.csv" for v in (1, 2) for u in (1, 2)]
        if packed:
            with zipfile.ZipFile(folder / "heads.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for name in names:
                    archive.writestr(name, text)
            return folder / "heads.zip"
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root

    return make


def _heads(root: Path) -> Any:
    from netllm_sims.vp import load_trajectories

    found = load_trajectories(root, gaps="keep")
    return {one.id.split("/", 1)[1]: _rounded(one.times_s, one.viewports_deg) for one in found}


def _rounded(times_s: Any, viewports_deg: Any) -> Any:
    return [times_s.tolist(), [[round(v, 6) % 360 for v in row] for row in viewports_deg.tolist()]]


def _said_heads(root: Path) -> Any:
    files = _inside(root) if root.is_file() else _below(root)
    return {
        "/".join(name.removesuffix(".csv").split("/")[-2:]): _head(content)
        for name, content in files
        if name.endswith(".csv")
    }


def _below(root: Path) -> Iterable[tuple[str, bytes]]:
    return [(p.relative_to(root).as_posix(), p.read_bytes()) for p in sorted(root.rglob("*.csv"))]


def _inside(root: Path) -> Iterable[tuple[str, bytes]]:
    with zipfile.ZipFile(root) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _head(content: bytes) -> Any:
    import numpy as np
    from netllm_sims.vp import geometry

    lines = content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    rows = [row for row in csv.reader(lines) if row and row[0].strip()[:1] not in ("", "#")]
    names = ["time", "roll", "pitch", "yaw"]
    if rows[0][0].strip()[:1].isalpha():
        names = [name.strip().lower() for name in rows.pop(0)]
    if any(len(row) != len(names) for row in rows):
        raise Wrong("a line has not as many columns as there are")
    table = np.array([[float(cell) for cell in row] for row in rows])
    places = {name.removesuffix("_s"): i for i, name in enumerate(names)}
    if "qx" in places:
        turns = table[:, [places[name] for name in ("qx", "qy", "qz", "qw")]]
        viewports = geometry.from_quaternions(turns)
    else:
        viewports = table[:, [places[name] for name in ("roll", "pitch", "yaw")]]
    return _rounded(table[:, places["time"]], geometry.wrap_deg(viewports))


def _make_frames(folder: Path) -> Path:
    import numpy as np
    from PIL import Image

    frames = folder / "frames" / "video1"
    frames.mkdir(parents=True)
    for i in range(1, 4):
        pixels = (np.arange(16 * 32 * 3).reshape(16, 32, 3) * i % 251).astype(np.uint8)
        Image.fromarray(pixels).save(frames / f"{i:06d}.png")
    return folder / "frames"


def _frames(root: Path) -> Any:
    from netllm_sims.vp.frames import open_frames

    frames = open_frames(root, "video1", rate_hz=1.0)
    return [frames.draw(i).tolist() for i in range(frames.count)]


# Jobs -------------------------------------------------------------------------------------------


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
    from netllm_sims.cjs.formats import load_dags

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
    from netllm_sims.cjs.alibaba import load_alibaba

    return [[job.arrival_ms, *_dag(job.dag)] for job in load_alibaba(path).jobs]


def _batch_says(path: Path) -> Any:
    jobs: dict[str, list[list[str]]] = {}
    for row in csv.reader(io.StringIO(_text(path), newline="")):
        if row and row[0] != "task_name":
            if len(row) != 9:
                raise Wrong("a row has not nine columns")
            jobs.setdefault(row[2], []).append(row)
    told = []
    for rows in jobs.values():
        spans = [(float(row[5] or 0), float(row[6] or 0)) for row in rows]
        if all(r[4] == "Terminated" for r in rows) and all(0 < s <= e for s, e in spans):
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
            raise Wrong("the numbers of executors of a stage differ")
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
    "abr-trace": Subject(
        {"*": "text"}, _written("trace", _COOKED), _trace, _NUMBER, _columns
    ),
    "abr-trace-csv": Subject(
        {"*": "text"}, _written("trace.csv", _KBPS), _trace, _NUMBER, _header_table
    ),
    "abr-trace-mahimahi": Subject(
        {"*": "text"}, _written("trace", _MAHIMAHI), _packets, _NUMBER, _milliseconds
    ),
    "abr-video": Subject({"*": "text"}, _make_video, _video, _NUMBER, _sizes, related=True),
    "abr-pointers": Subject(
        {"*_ptrs.json": "json"}, _make_published, _published,
        "each pointer is of the trace at its place, and a point of it but the last", _starts,
    ),
    "vp-csv": Subject(
        {"*.csv": "text"}, _make_heads(_ANGLES, packed=False), _heads, _NUMBER, _said_heads,
        related=True,
    ),
    "vp-csv-quaternions": Subject(
        {"*.csv": "text"}, _make_heads(_TURNS, packed=False), _heads, _NUMBER, _said_heads,
        related=True,
    ),
    "vp-zip": Subject(
        {"*.zip": "zip:text"}, _make_heads(_ANGLES, packed=True), _heads, _NUMBER, _said_heads
    ),
    "vp-frames": Subject(
        {"*.png": "png"}, _make_frames, _frames, "as many frames", shape=len, related=True
    ),
    "cjs-spark": Subject(
        {"*": "json"}, _make_spark(packed=False), _dags, _NUMBER + "; fields unknown are ignored",
        _log_says,
    ),
    "cjs-spark-gzip": Subject(
        {"*": "gzip:json"}, _make_spark(packed=True), _dags, _NUMBER, _log_says
    ),
    "cjs-spark-rolled": Subject(
        {"*": "json"}, _make_rolled, _dags, _NUMBER, _log_says, related=True
    ),
    "cjs-alibaba": Subject(
        {"*": "text"}, _written("batch_task.csv", _BATCH), _batch,
        _NUMBER + "; jobs that never ran to their end are left out", _batch_says,
    ),
    "cjs-tpch": Subject({"*": "gzip:json"}, _make_tpch, _dags, _NUMBER, _tpch_says),
    "cjs-arrays": Subject(
        {"*.npy": "npy"}, _make_arrays, _dags, "as many jobs and stages", shape=_structure,
        related=True,
    ),
}  # fmt: skip
