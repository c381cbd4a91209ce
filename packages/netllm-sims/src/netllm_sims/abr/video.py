"""Videos: a ladder of bitrates and the size of every chunk."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.files import reading
from netllm_sims.files.number_tables import Layout, read_table
from netllm_sims.files.unit_warnings import Doubt, warn

LADDER_KBPS = (300.0, 750.0, 1200.0, 1850.0, 2850.0, 4300.0)
"""Ladder of Pensieve, GENET and NetLLM."""
CHUNKS = 48
"""Chunks played per session, as there."""
_MOST_BYTES = 1e9
_MOST_S = 86_400.0
_MOST_RATIO = 1.8
_GUESSES = {"bits": 8.0, "kilobits": 8e-3, "kilobytes": 1e-3, "megabytes": 1e-6}


@dataclass(frozen=True, eq=False, kw_only=True)
class Video:
    """A video cut into chunks, each encoded at every rate of a ladder.

    Raises:
        ValueError: The ladder does not rise, the table does not fit it, a size is not positive or
            above 1 GB, a chunk lasts longer than a day, or more chunks are to be played than the
            table has.
    """

    name: str
    rates_kbps: tuple[float, ...]
    """Label rate of each level, rising."""
    sizes_bytes: Float[ndarray, "chunk level"]
    """Size of each chunk; rows beyond `chunks` are visible to policies but never played."""
    chunk_s: float = 4.0
    """Playback time of a chunk."""
    chunks: int = CHUNKS
    """Chunks played."""
    folder: Path | None = None
    """Where its sizes were read from."""
    quality: Float[ndarray, "chunk level"] | None = None
    """Quality of each chunk, such as SSIM in dB or VMAF."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates_kbps", tuple(float(rate) for rate in self.rates_kbps))
        sizes = np.array(self.sizes_bytes, dtype=np.float64, order="C")
        sizes.setflags(write=False)
        object.__setattr__(self, "sizes_bytes", sizes)
        rates = self.rates_kbps
        if (
            not rates
            or not all(isfinite(rate) and rate > 0 for rate in rates)
            or any(b <= a for a, b in pairwise(rates))
        ):
            raise ValueError(f"`rates_kbps` must be positive and rise, got {list(rates)}.")
        if not 0 < self.chunk_s <= _MOST_S:
            raise ValueError(
                f"`chunk_s` must be > 0 s and at most {_MOST_S:g} s, got {self.chunk_s}."
            )
        if sizes.ndim != 2 or sizes.shape[1] != len(rates):
            raise ValueError(
                f"`sizes_bytes` of video `{self.name}` must have one column for each of the "
                f"{len(rates)} rates, "
                f"got shape {sizes.shape}. Set `rates_kbps` to the ladder of this video."
            )
        if self.quality is not None:
            object.__setattr__(self, "quality", self._checked(self.quality))
        wrong = sizes[~((sizes > 0) & (sizes <= _MOST_BYTES))]
        if len(wrong):
            raise ValueError(
                f"`sizes_bytes` of video `{self.name}` must be > 0 bytes and at most "
                f"{_MOST_BYTES:g}, got {wrong[0]:g}. Its chunks are as long as `chunk_s`."
            )
        if not 2 <= self.chunks <= len(sizes):
            raise ValueError(
                f"`chunks` must lie between 2 and the {len(sizes)} rows of video `{self.name}`, "
                f"got {self.chunks}."
            )

    def _checked(self, quality: Float[ndarray, "..."]) -> Float[ndarray, "chunk level"]:
        """The qualities, read-only, if there is a finite one for every size."""
        quality = np.array(quality, dtype=np.float64, order="C")
        quality.setflags(write=False)
        if quality.shape != self.sizes_bytes.shape or not np.isfinite(quality).all():
            raise ValueError(
                f"`quality` of video `{self.name}` must hold a finite number for every size, "
                f"shape {self.sizes_bytes.shape}, got shape {quality.shape}."
            )
        return quality

    @property
    def digest(self) -> str:
        """SHA-256 of ladder and sizes: equal for videos of equal content."""
        numbers = [*self.rates_kbps, self.chunk_s, float(self.chunks)]
        quality = b"" if self.quality is None else self.quality.tobytes()
        content = np.array(numbers).tobytes() + self.sizes_bytes.tobytes() + quality
        return hashlib.sha256(content).hexdigest()

    @property
    def levels(self) -> int:
        """Number of rates."""
        return len(self.rates_kbps)


def load_video(
    folder: str | Path,
    *,
    rates_kbps: tuple[float, ...] = LADDER_KBPS,
    chunk_s: float = 4.0,
    chunks: int | None = None,
) -> Video:
    """Video from files `video_size_0`, `video_size_1`, …: one size in bytes per line and chunk.

    Files `video_quality_0` and so on beside them, one number per line and chunk, are its qualities.
    The numbers of files may have leading zeros. Sizes that look like another unit, and a ladder
    that does not fit them, are named by a warning of the logger `netllm_sims.files.unit_warnings`.

    Args:
        folder: The folder; its name becomes the video's.
        rates_kbps: Label rate of each file, in kbit/s.
        chunk_s: Playback time of a chunk, in s.
        chunks: Chunks to play; by default 48, or all when there are fewer.

    Raises:
        ValueError: The files disagree in length, leave a gap in their numbers, hold something else
            than positive numbers, or are not as many as the rates; names file, line and remedy.
        FileNotFoundError: There is no such folder, or no such file in it.
    """
    folder = Path(folder)
    columns = _read_sizes(folder)
    if len(columns) != len(rates_kbps):
        raise ValueError(
            f"{folder}: there must be one size file per rate, got {len(columns)} files for the "
            f"rates {list(rates_kbps)} kbit/s. Set `rates_kbps` to the ladder of this video."
        )
    video = Video(
        name=folder.name,
        rates_kbps=rates_kbps,
        sizes_bytes=np.array(columns).T,
        chunk_s=chunk_s,
        chunks=min(CHUNKS, len(columns[0])) if chunks is None else chunks,
        folder=folder,
        quality=_read_quality(folder, len(columns), len(columns[0])),
    )
    warn(folder, list(_odd(video)))
    return video


def _read_sizes(folder: Path) -> list[Float[ndarray, "chunk"]]:
    """The sizes of each level, equally many."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: there is no such folder of chunk sizes. Correct the path; the published "
            "ones come with `netllm data fetch abr`."
        )
    files = _numbered(folder, "size")
    if not files:
        raise FileNotFoundError(
            f"{folder}: a video must have files video_size_0, video_size_1, … without a gap, got "
            "numbers []."
        )
    layout = Layout(
        width=1,
        columns=(0,),
        what="sizes of chunks",
        remedy=f"Write one number of bytes > 0 and at most {_MOST_BYTES:g} per line.",
    )
    columns = []
    for file in files:
        sizes, lines = _read_column(file, layout)
        wrong = np.flatnonzero(~((sizes > 0) & (sizes <= _MOST_BYTES)))
        if len(wrong):
            raise ValueError(
                f"{file}:{lines[wrong[0]]}: a chunk's size must be a number of bytes > 0 and at "
                f"most {_MOST_BYTES:g}, got {sizes[wrong[0]]:g}. Correct the line."
            )
        columns.append(sizes)
    _check_lengths(files, columns)
    return columns


def _read_quality(folder: Path, levels: int, chunks: int) -> Float[ndarray, "chunk level"] | None:
    """The qualities of each level, as many as there are sizes; None where there are no files."""
    files = _numbered(folder, "quality")
    if not files:
        return None
    if len(files) != levels:
        raise ValueError(
            f"{folder}: there must be one quality file per size file, got {len(files)} and "
            f"{levels}. Add or remove files."
        )
    remedy = "Write one number per line and chunk."
    layout = Layout(width=1, columns=(0,), what="qualities of chunks", remedy=remedy)
    columns = [_read_column(file, layout)[0] for file in files]
    _check_lengths(files, columns)
    if len(columns[0]) != chunks:
        raise ValueError(
            f"{files[0]}:{min(len(columns[0]), chunks) + 1}: there must be one quality for each of "
            f"the {chunks} sizes, got {len(columns[0])}. {remedy}"
        )
    return np.array(columns).T


def _numbered(folder: Path, kind: str) -> list[Path]:
    """Files `video_KIND_0`, `video_KIND_1`, … in order."""
    start = f"video_{kind}_"
    files = sorted(
        (int(p.name.removeprefix(start)), p)
        for p in folder.iterdir()
        if re.fullmatch(rf"{start}[0-9]{{1,9}}", p.name)
    )
    numbers = [number for number, _ in files]
    if numbers != list(range(len(numbers))):
        raise FileNotFoundError(
            f"{folder}: a video must have files {start}0, {start}1, … without a gap, got "
            f"numbers {numbers}."
        )
    return [file for _, file in files]


def _read_column(
    file: Path, layout: Layout
) -> tuple[Float[ndarray, "chunk"], Int[ndarray, "chunk"]]:
    """The numbers of a file, at least one, and their lines."""
    with reading.opened(file) as stream:
        values, lines = read_table(reading.blocks(stream, file), file, layout)
    if not len(values):
        raise ValueError(f"{file}:1: there must be {layout.what}, one per line, got an empty file.")
    return values[:, 0], lines


def _check_lengths(files: Sequence[Path], columns: Sequence[Float[ndarray, "chunk"]]) -> None:
    for file, column in zip(files, columns, strict=True):
        if len(column) != len(columns[0]):
            short = min(len(column), len(columns[0]))
            kind = "size" if "size" in file.name else "quality"
            raise ValueError(
                f"{file}:{short + 1}: all {kind} files of a video must have one line per chunk, "
                f"got {len(column)} lines here and {len(columns[0])} in {files[0].name}. Correct "
                "the shorter."
            )


def _odd(video: Video) -> Iterator[Doubt]:
    """What looks like other units, another length of chunks or another ladder."""
    mean_kbps = video.sizes_bytes.mean(axis=0) * 8e-3 / video.chunk_s
    ratios = mean_kbps / np.array(video.rates_kbps)
    usual = float(np.median(ratios))
    if not 1 / _MOST_RATIO <= usual <= _MOST_RATIO:
        guess = next((what for what, r in _GUESSES.items() if r / 1.6 < usual < r * 1.6), None)
        yield Doubt(
            f"its chunks of {video.chunk_s:g} s have {usual:.3g} times the bytes of its rates",
            f"{1 / _MOST_RATIO:.2g} to {_MOST_RATIO:g} times",
            (f"Are the sizes {guess}? " if guess else "")
            + "Sizes must be bytes, `rates_kbps` the ladder in kbit/s, `chunk_s` a chunk's length.",
        )
    off = np.flatnonzero(np.maximum(ratios / usual, usual / ratios) > _MOST_RATIO)
    falls = np.flatnonzero(np.diff(mean_kbps) <= 0)
    if len(off) or len(falls):
        level = int(off[0]) if len(off) else int(falls[0]) + 1
        shown = ", ".join(f"{rate:,.0f}" for rate in mean_kbps)
        yield Doubt(
            f"its ladder does not fit: level {level} has {mean_kbps[level]:,.0f} kbit/s in the "
            "mean",
            f"about its rate of {video.rates_kbps[level]:,.0f} kbit/s, and more than the level "
            "below",
            f"The files hold {shown} kbit/s: set `rates_kbps` to the ladder of this video.",
        )
