"""What a player tells of a session that it plays, and the session's QoE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from netllm_sims.abr.session_picture import Chunk as PicturedChunk

if TYPE_CHECKING:
    from netllm_sims.abr import Setting, Video

Count = Annotated[int, Meta(ge=0)]
Number = Annotated[float, Meta(ge=0)]


class Chunk(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A chunk that has arrived in a player."""

    number: Count
    """Its place in the video, from 0."""
    level: Count
    size_bytes: Count
    took_s: Number
    """From request to last byte."""
    stall_s: Number
    """Time without playback since the chunk before had arrived; of the first, until it arrived."""
    buffer_s: Number
    """Playback time in the buffer, this chunk included."""
    by: str = ""
    """Who decided about the next chunk: `model`, the server's fallback, or `page`; empty if none
    follows."""
    decided_ms: Number = 0.0
    """How long that took, way to the server and back included."""
    why: str = ""
    """What kept the server from deciding."""

    @property
    def throughput_mbps(self) -> float:
        """What its download reached."""
        return self.size_bytes * 8e-6 / self.took_s if self.took_s else 0.0


class Log(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a player tells after every chunk, and when it has failed."""

    chunks: list[Chunk] = []
    over: bool = False
    """Whether the last chunk has arrived."""
    error: str = ""
    """Why it does not go on."""


def check(log: Log, video: Video) -> None:
    """Raise unless a log tells of every chunk of the video, in order.

    Raises:
        ValueError: with what is wrong.
    """
    if log.error:
        raise ValueError(log.error)
    numbers = [chunk.number for chunk in log.chunks]
    if numbers != [*range(video.chunks)]:
        raise ValueError(
            f"A player must load chunks 0 to {video.chunks - 1} in order, but it loaded {numbers}."
        )
    for chunk in log.chunks:
        if chunk.level >= video.levels:
            raise ValueError(
                f"Chunk {chunk.number} must be of a level up to {video.levels - 1}, "
                f"got {chunk.level}."
            )
        size = round(video.sizes_bytes[chunk.number, chunk.level])
        if chunk.size_bytes != size:
            raise ValueError(
                f"Chunk {chunk.number} at level {chunk.level} must have {size} bytes, but "
                f"{chunk.size_bytes} arrived."
            )


def pictured(log: Log, setting: Setting) -> list[PicturedChunk]:
    """The chunks as pictures of sessions show them, simulated ones too."""
    rates_mbps = [rate * 1e-3 for rate in setting.video.rates_kbps]
    return [
        PicturedChunk(rates_mbps[one.level], one.throughput_mbps, one.buffer_s, one.stall_s)
        for one in log.chunks
    ]


def figures(chunks: Sequence[PicturedChunk], setting: Setting) -> dict[str, float]:
    """QoE and its parts, means over the chunks that were decided about, as the simulator's."""
    rates_mbps = np.array([chunk.rate_mbps for chunk in chunks])
    change_mbps = np.abs(np.diff(rates_mbps))
    stall_s = np.array([chunk.stall_s for chunk in chunks[1:]])
    parts = {"bitrate_mbps": rates_mbps[1:], "rebuffer_s": stall_s, "smoothness_mbps": change_mbps}
    levels = np.searchsorted(np.array(setting.video.rates_kbps) * 1e-3, rates_mbps - 1e-9)
    quality = setting.chunk_quality[np.arange(len(levels)), levels]
    found = {"qoe": setting.qoe(quality[1:], stall_s, np.diff(quality)), **parts}
    return {name: float(values.mean()) for name, values in found.items()}


def rows(
    sessions: Mapping[str, Sequence[PicturedChunk]], setting: Setting, *, seed: int
) -> list[dict[str, Any]]:
    """The figures of sessions, as rows of a result."""
    return [
        {"id": name, "seed": seed, **figures(chunks, setting)} for name, chunks in sessions.items()
    ]


def decision_ms(logs: Sequence[Log]) -> Mapping[str, float]:
    """How long decisions took, by quantile."""
    took = [chunk.decided_ms for log in logs for chunk in log.chunks if chunk.by]
    return {name: float(np.quantile(took, q)) for name, q in (("p50", 0.5), ("p99", 0.99))}
