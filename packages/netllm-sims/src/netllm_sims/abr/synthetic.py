"""Seeded generators of bandwidth traces and videos."""

import numpy as np

from netllm_sims.abr.traces import Trace
from netllm_sims.abr.video import CHUNKS, LADDER_KBPS, Video

Range = tuple[float, float]

GENERATED = "synthetic"
"""Name of a generated video."""
_MOST_CHUNKS = 1_000_000
"""More would fill the memory before the first one is played."""

GENET_RANGES: dict[str, tuple[Range, Range, Range]] = {
    "easy": ((0, 3.5), (1, 5), (1, 4)),
    "middle": ((0, 5), (1, 20), (0, 20)),
    "wide": ((0, 10), (1, 100), (0, 100)),
}
"""Published ranges of lowest Mbps, highest Mbps, points between changes; drawn once per trace."""


def genet_trace(
    seed: int | np.random.Generator,
    *,
    low_mbps: Range = GENET_RANGES["easy"][0],
    high_mbps: Range = GENET_RANGES["easy"][1],
    change_points: Range = GENET_RANGES["easy"][2],
    duration_s: float = 330.0,
    id: str = "genet",
) -> Trace:
    """Trace whose bandwidth is uniform between two values and held for some points at a time.

    Points follow each other after U(0.1, 3.5) s; the bandwidth is U(low, high) rounded to 0.01 Mbps
    and stays for 1 … T points; low, high and T are drawn once per trace from their ranges.

    Args:
        seed: Seed or generator; the same seed gives the same trace.
        low_mbps: Range of the lowest bandwidth, in Mbit/s.
        high_mbps: Range of the highest bandwidth, in Mbit/s.
        change_points: Range of T, in points.
        duration_s: Length in s at least; the last point may lie up to 3.5 s later.
        id: The trace's id.

    Source: GENET (Xia et al., SIGCOMM 2022), `simulator/abr_simulator`, its synthetic traces.
    """
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(*low_mbps), rng.uniform(*high_mbps)
    change = max(1, round(rng.uniform(*change_points)))
    time_s, bandwidth, held = [0.0], [0.0], 0
    while time_s[-1] < duration_s:
        if held == 0:
            value, held = (
                round(rng.uniform(min(low, high), max(low, high)), 2),
                int(rng.integers(1, change + 1)),
            )
        time_s.append(time_s[-1] + rng.uniform(0.1, 3.5))
        bandwidth.append(value)
        held -= 1
    bandwidth[0] = bandwidth[1]
    if not any(bandwidth):
        bandwidth[-1] = 0.01
    return Trace(id, np.array(time_s), np.array(bandwidth))


def markov_trace(
    seed: int | np.random.Generator,
    *,
    low_mbps: float = 0.2,
    high_mbps: float = 6.0,
    states: int = 8,
    duration_s: float = 320.0,
    id: str = "markov",
) -> Trace:
    """Trace of a Markov-modulated link: once a second it may move to a neighbouring level.

    Each trace draws a mean (log-uniform), a spread of its levels around it, how sticky they are,
    and its noise, so that steady broadband and swinging mobile links both occur.

    Args:
        seed: Seed or generator; the same seed gives the same trace.
        low_mbps: Lowest bandwidth, in Mbit/s.
        high_mbps: Highest bandwidth, in Mbit/s.
        states: Number of levels.
        duration_s: Length in s.
        id: The trace's id.

    Source: the synthetic traces of Pensieve (Mao et al., SIGCOMM 2017, section 5.1), with levels
    spaced geometrically.
    """
    rng = np.random.default_rng(seed)
    mean = np.exp(rng.uniform(np.log(2.5 * low_mbps), np.log(high_mbps / 2)))
    spread = rng.uniform(1.1, 3.0)
    levels = mean * spread ** np.linspace(-1, 1, states)
    stay, noise = rng.uniform(0.8, 0.97), rng.uniform(0.02, 0.25)
    points = max(2, round(duration_s)) + 1
    moves = np.where(rng.random(points) < stay, 0, rng.choice([-1, 1], points))
    state = np.zeros(points, int)
    state[0] = rng.integers(states)
    for i in range(1, points):
        state[i] = min(max(state[i - 1] + moves[i], 0), states - 1)
    bandwidth = np.clip(
        levels[state] * (1 + noise * rng.standard_normal(points)), low_mbps, high_mbps
    )
    return Trace(id, np.linspace(0.0, duration_s, points), bandwidth)


def vbr_video(
    seed: int | np.random.Generator,
    *,
    rates_kbps: tuple[float, ...] = LADDER_KBPS,
    chunk_s: float = 4.0,
    chunks: int = CHUNKS,
    id: str = GENERATED,
) -> Video:
    """Video with variable bitrate: chunk sizes vary by about 10 %, mostly together at all levels.

    The sizes of a level are its label rate times a scene factor common to all levels (standard
    deviation 9 %) times a factor of its own (4 %), as in NetLLM's video1.

    Args:
        seed: Seed or generator; the same seed gives the same video.
        rates_kbps: The ladder, in kbit/s.
        chunk_s: Playback time of a chunk, in s.
        chunks: Chunks played; the table holds one more row, as the published ones do.
        id: The video's name.

    Raises:
        ValueError: A ladder that does not rise, fewer than two chunks, or more than a million.
    """
    if not 2 <= chunks <= _MOST_CHUNKS:
        raise ValueError(f"`chunks` must be at least 2 and at most {_MOST_CHUNKS:,}, got {chunks}.")
    rng = np.random.default_rng(seed)
    rates = np.array(rates_kbps, dtype=float)
    scene = rng.normal(0.0, 0.09, (chunks + 1, 1))
    own = rng.normal(0.0, 0.04, (chunks + 1, len(rates)))
    sizes = np.round(rates * 1e3 / 8 * chunk_s * np.exp(scene + own))
    return Video(name=id, rates_kbps=rates_kbps, sizes_bytes=sizes, chunk_s=chunk_s, chunks=chunks)
