"""The loaders of traces, videos, start pointers and head movement, and what their files say."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mutating.judging import Subject, Untold, Wrong

NUMBER = "a changed number that is still plausible is another input; all else must be told"


def text_of(path: Path) -> str:
    """The text of a file, without a mark of byte order."""
    return path.read_bytes().decode("utf-8-sig")


def _told(path: Path) -> list[str]:
    """The lines that are neither blank nor comments, whatever ends them."""
    text = text_of(path).replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.strip() for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


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


def written(name: str, text: str) -> Any:
    """What makes an input of one file."""

    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


_POINTS = [(0.5 * i, 0.7 + (i * 37 % 11) / 4) for i in range(40)]
_COOKED = "".join(f"{s:.3f}\t{mbps:.4f}\n" for s, mbps in _POINTS)
_KBPS = "session,time_s,bandwidth_kbps\n" + "".join(f"a,{s},{m * 1e3:.1f}\n" for s, m in _POINTS)
_MAHIMAHI = "".join(f"{i * 7}\n" for i in range(1, 300))


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
        text = text_of(folder / f"video_size_{level}")
        columns.append([float(line) for line in text.split("\n") if line.strip()])
    return [list(row) for row in zip(*columns, strict=True)]


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
    from netllm_sims.abr import train_valid_test

    return [
        [session.id, session.start_s] for session in train_valid_test.published(data, "fcc-test")
    ]


def _starts(data: Path) -> Any:
    traces = data / "abr" / "traces"
    document = json.loads(text_of(traces / "fcc-test_mahimahi_ptrs.json"))
    names, pointers = sorted(p.name for p in (traces / "fcc-test").iterdir()), document["ptrs"]
    if document["files"] != names:
        raise Wrong("the files are others")
    if any(type(p) is not int or not 1 <= p < len(_POINTS) for p in pointers):
        raise Wrong("a pointer is none")
    return [[n, _POINTS[p - 1][0]] for n, p in zip(names, pointers, strict=True)]


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
    times = table[:, [name.startswith("time") for name in names].index(True)]
    if len(times) > 1 and not 0.18 <= np.median(np.diff(times)) <= 0.22:
        raise Untold("it is resampled")
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


_NO_FOLDER = ("removed", "a FIFO", "a loop", "endless")
"""Folders within a data set are looked into, whatever their names."""
_LASTING = ("a folder", "a FIFO", "a loop", "endless")
"""Without its last frame a video is a shorter one; a setting compares it with its trajectories."""

SUBJECTS = {
    "abr-trace": Subject(
        {"*": "text"}, written("trace", _COOKED), _trace, NUMBER, _columns
    ),
    "abr-trace-csv": Subject(
        {"*": "text"}, written("trace.csv", _KBPS), _trace, NUMBER, _header_table
    ),
    "abr-trace-mahimahi": Subject(
        {"*": "text"}, written("trace", _MAHIMAHI), _packets, NUMBER, _milliseconds
    ),
    "abr-video": Subject({"*": "text"}, _make_video, _video, NUMBER, _sizes, related=True),
    "abr-pointers": Subject(
        {"*_ptrs.json": "json"}, _make_published, _published,
        "each pointer is of the trace at its place, and a point of it but the last", _starts,
    ),
    "vp-csv": Subject(
        {"*.csv": "text"}, _make_heads(_ANGLES, packed=False), _heads, NUMBER, _said_heads,
        related=True, special=_NO_FOLDER,
    ),
    "vp-csv-quaternions": Subject(
        {"*.csv": "text"}, _make_heads(_TURNS, packed=False), _heads, NUMBER, _said_heads,
        related=True, special=_NO_FOLDER,
    ),
    "vp-zip": Subject(
        {"*.zip": "zip:text"}, _make_heads(_ANGLES, packed=True), _heads, NUMBER, _said_heads
    ),
    "vp-frames": Subject(
        {"*.png": "png"}, _make_frames, _frames, "as many frames", shape=len, related=True,
        special=_LASTING,
    ),
}  # fmt: skip
