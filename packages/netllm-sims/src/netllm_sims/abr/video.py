"""Videos: a ladder of bitrates and the size of every chunk."""

import hashlib
import re
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

LADDER_KBPS = (300.0, 750.0, 1200.0, 1850.0, 2850.0, 4300.0)
"""Ladder of Pensieve, GENET and NetLLM."""
CHUNKS = 48
"""Chunks played per session, as there."""
_MOST_BYTES = 1e9
_MOST_S = 86_400.0


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

    @property
    def digest(self) -> str:
        """SHA-256 of ladder and sizes: equal for videos of equal content."""
        numbers = [*self.rates_kbps, self.chunk_s, float(self.chunks)]
        return hashlib.sha256(np.array(numbers).tobytes() + self.sizes_bytes.tobytes()).hexdigest()

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

    Their numbers may have leading zeros.

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
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: there is no such folder of chunk sizes. Correct the path; the published "
            "ones come with `netllm data fetch abr`."
        )
    files = sorted(
        (int(p.name[11:]), p) for p in folder.iterdir() if re.fullmatch(r"video_size_\d+", p.name)
    )
    numbers = [number for number, _ in files]
    if not numbers or numbers != list(range(len(numbers))):
        raise FileNotFoundError(
            f"{folder}: a video must have files video_size_0, video_size_1, … without a gap, got "
            f"numbers {numbers}."
        )
    columns = [_read_sizes(file) for _, file in files]
    for (_, file), column in zip(files, columns, strict=True):
        if len(column) != len(columns[0]):
            short = min(len(column), len(columns[0]))
            raise ValueError(
                f"{file}:{short + 1}: all size files of a video must have one line per chunk, got "
                f"{len(column)} lines here and {len(columns[0])} in {files[0][1].name}. Correct "
                "the shorter."
            )
    if len(columns) != len(rates_kbps):
        raise ValueError(
            f"{folder}: there must be one size file per rate, got {len(columns)} files for the "
            f"rates {list(rates_kbps)} kbit/s. Set `rates_kbps` to the ladder of this video."
        )
    return Video(
        name=folder.name,
        rates_kbps=rates_kbps,
        sizes_bytes=np.array(columns).T,
        chunk_s=chunk_s,
        chunks=min(CHUNKS, len(columns[0])) if chunks is None else chunks,
        folder=folder,
    )


def _read_sizes(file: Path) -> list[float]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(
            f"{file}:1: a size file must be a text file, got other bytes. Unpack it, or write one "
            "size per line."
        ) from None
    sizes = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            size = float(line)
        except ValueError:
            size = float("nan")
        if not 0 < size <= _MOST_BYTES:
            raise ValueError(
                f"{file}:{number}: a chunk's size must be a number of bytes > 0 and at most "
                f"{_MOST_BYTES:g}, got {line.strip()!r}. Correct the line."
            )
        sizes.append(size)
    if not sizes:
        raise ValueError(f"{file}:1: a size file must hold one size per chunk, got an empty file.")
    return sizes
