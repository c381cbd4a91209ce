"""Network traces and movies of the simulator sabre."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from netllm_sims.abr.importers._bandwidth_series import Series, of_intervals
from netllm_sims.abr.importers._output_folder import rounded
from netllm_sims.abr.video import CHUNKS, Video
from netllm_sims.files.json_reading import decode_json
from netllm_sims.files.number_tables import MOST


class _Period(msgspec.Struct):
    duration_ms: float
    bandwidth_kbps: float


class _Movie(msgspec.Struct):
    segment_duration_ms: float
    bitrates_kbps: list[float]
    segment_sizes_bits: list[list[float]]


def traces(files: Iterable[Path]) -> Iterator[Series]:
    """A series per trace: a JSON list of `duration_ms`, `bandwidth_kbps` and `latency_ms`.

    The latency is left out: our simulator has one for a whole setting (`latency_s`).

    Raises:
        ValueError: Another JSON, a duration that is not positive, or a negative bandwidth.

    Source: sabre (Spiteri, Sitaraman, Sparacio, MMSys 2018), appendix B.1 and `example/mmsys18`.
    """
    for path in files:
        periods = decode_json(path, list[_Period])
        for place, one in enumerate(periods):
            if not (0 < one.duration_ms <= MOST and 0 <= one.bandwidth_kbps <= MOST):
                raise ValueError(
                    f"{path}: at $[{place}]: `duration_ms` must be > 0 and `bandwidth_kbps` >= 0, "
                    f"got {one.duration_ms:g} and {one.bandwidth_kbps:g}. Correct the file."
                )
        yield of_intervals(
            path.name.removesuffix(".json"),
            str(path),
            [one.duration_ms for one in periods],
            [one.bandwidth_kbps / 1e3 for one in periods],
        )


def video(file: Path) -> Video:
    """Video of a movie: `segment_duration_ms`, `bitrates_kbps` and `segment_sizes_bits`.

    Sizes become bytes, a started byte counts.

    Raises:
        ValueError: Another JSON, rows of another length than the ladder, or values that `Video`
            refuses.

    Source: sabre, appendix B.1.1.
    """
    movie = decode_json(file, _Movie)
    levels = len(movie.bitrates_kbps)
    if not levels or not movie.segment_sizes_bits:
        raise ValueError(
            f"{file}: `bitrates_kbps` and `segment_sizes_bits` must not be empty. Correct the file."
        )
    for place, sizes in enumerate(movie.segment_sizes_bits):
        if len(sizes) != levels:
            raise ValueError(
                f"{file}: at $.segment_sizes_bits[{place}]: there must be one size for each of the "
                f"{levels} bitrates, got {len(sizes)}. Correct the file."
            )
    sizes_bytes = rounded(np.array(movie.segment_sizes_bits, dtype=np.float64) / 8)
    try:
        return Video(
            name=file.name.removesuffix(".json"),
            rates_kbps=tuple(movie.bitrates_kbps),
            sizes_bytes=sizes_bytes.reshape(-1, levels),
            chunk_s=movie.segment_duration_ms / 1e3,
            chunks=min(CHUNKS, len(sizes_bytes)),
        )
    except ValueError as fault:
        raise ValueError(f"{file}: {fault}") from None
