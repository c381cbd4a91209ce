"""A streaming session as a picture: bandwidth and chosen rates above, the buffer below."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray


class Chunk(NamedTuple):
    """What is drawn of one chunk."""

    rate_mbps: float
    """Its rate."""
    throughput_mbps: float
    """What its download reached; 0 where unknown."""
    buffer_s: float
    """Playback in the buffer after it."""
    stall_s: float
    """Time without playback that it caused."""


def last_chunk(observation: Mapping[str, ndarray]) -> Chunk:
    """The chunk that arrived last, by what one session then shows."""
    return Chunk(
        rate_mbps=observation["rate_kbps"].item() * 1e-3,
        throughput_mbps=float(observation["throughput_mbps"][-1]),
        buffer_s=observation["buffer_s"].item(),
        stall_s=observation["stall_s"].item(),
    )


def draw(chunks: Sequence[Chunk], figure: Any, *, total: int, cap_s: float) -> None:
    """Draw the chunks so far into an empty figure of matplotlib.

    Args:
        chunks: The chunks in order, the first one that `reset` downloads included.
        figure: Where to draw.
        total: Chunks of the video.
        cap_s: Most playback that the buffer takes.
    """
    upper, lower = figure.subplots(2, 1, sharex=True)
    table = np.array(chunks, np.float64).reshape(-1, len(Chunk._fields))
    number = np.arange(len(table))
    rate_mbps, throughput_mbps, buffer_s, stall_s = table.T
    upper.bar(number, throughput_mbps, width=1.0, color="#D0D0D0", label="throughput")
    upper.step(number, rate_mbps, where="mid", color="#0072B2", label="chosen rate")
    upper.set_ylabel("Mbit/s")
    upper.legend(frameon=False, loc="upper right")
    lower.plot(number, buffer_s, color="#009E73", label="buffer")
    lower.bar(number, stall_s, width=1.0, color="#D55E00", label="stall")
    lower.set(xlabel="chunk", ylabel="s", xlim=(-0.5, total - 0.5), ylim=(0, cap_s))
    lower.legend(frameon=False, loc="upper right")
