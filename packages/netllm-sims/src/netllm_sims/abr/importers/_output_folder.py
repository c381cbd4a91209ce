"""Our own formats of traces and videos, written as a folder that appears when it is complete."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from netllm_sims.abr.importers._bandwidth_series import Series
from netllm_sims.abr.traces import Trace, first_fault
from netllm_sims.abr.video import Video
from netllm_sims.files.new_folder import new_folder

_LEAST_S = 10.0
_LEAST_POINTS = 5


def write_traces(out: Path, series: Iterable[Series]) -> tuple[int, int]:
    """Write each series as a CSV file `time_s,bandwidth_mbps`; how many, and how many were not.

    Args:
        out: The folder.
        series: What was read. One of a file of many is left out where it is shorter than 10 s or
            five points, or has no bandwidth at all; one that is a file by itself is an error.

    Raises:
        ValueError: A series is no trace, or all of a file's were left out.
        FileExistsError: The folder holds something.
    """
    made = left_out = 0
    first = None
    with new_folder(out) as folder:
        for one in series:
            first = first or one.where
            fault = first_fault(one.time_s, one.bandwidth_mbps)
            if one.of_many and (fault or _short(one)):
                left_out += 1
                continue
            if fault is not None:
                raise ValueError(f"{one.where}: {fault[1]}")
            trace = Trace(one.id, one.time_s, one.bandwidth_mbps)
            pairs = zip(trace.time_s.tolist(), trace.bandwidth_mbps.tolist(), strict=True)
            lines = "".join(f"{time_s!r},{mbps!r}\n" for time_s, mbps in pairs)
            _free(folder, one.id).write_text(f"time_s,bandwidth_mbps\n{lines}", encoding="utf-8")
            made += 1
        if not made:
            raise ValueError(
                f"{first or out}: must hold at least one run of {_LEAST_S:g} s, {_LEAST_POINTS} "
                f"points and some bandwidth, got {left_out} that are shorter or without any."
            )
    return made, left_out


def write_video(out: Path, video: Video) -> None:
    """Write the sizes of a video as `video_size_0`, …, and its ladder as `settings.txt`.

    Raises:
        FileExistsError: The folder holds something.
    """
    with new_folder(out) as folder:
        for level, sizes in enumerate(video.sizes_bytes.T.tolist()):
            lines = "".join(f"{size:.0f}\n" for size in sizes)
            (folder / f"video_size_{level}").write_text(lines, encoding="utf-8")
        rates = ",".join(f"{rate:.10g}" for rate in video.rates_kbps)
        (folder / "settings.txt").write_text(
            f"rates_kbps={rates}\nchunk_s={video.chunk_s:.10g}\nchunks={video.chunks}\n",
            encoding="utf-8",
        )


def _short(one: Series) -> bool:
    return len(one.time_s) < _LEAST_POINTS or float(one.time_s[-1]) < _LEAST_S


def _free(folder: Path, name: str) -> Path:
    """A path that does not exist; names from data become harmless ones."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:100] or "trace"
    path, number = folder / f"{plain}.csv", 1
    while path.exists():
        number += 1
        path = folder / f"{plain}-{number}.csv"
    return path


def rounded(sizes_bytes: np.ndarray) -> np.ndarray:
    """Sizes in whole bytes, where a source counts in bits: a started byte is sent."""
    return np.ceil(sizes_bytes)
