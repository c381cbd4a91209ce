"""What the PPO actor and its critic see, as plain arrays."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped
from netllm_sims.abr import Trace
from netllm_sims.abr.link import curve

HISTORY = 6
"""Past chunks in an observation."""
LOOKAHEAD = 6
"""Coming chunks in an observation."""
HORIZONS_S = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
"""Borders of the windows of future bandwidth that the critic sees."""

SLOWEST_MBPS = 0.01
SMALLEST_MB = 1e-3
SHORTEST_S = 0.01
"""Below these, logarithms are of these."""


def width(levels: int) -> int:
    """Number of features for a ladder of `levels` rates."""
    return 2 * HISTORY + LOOKAHEAD * levels + 4 * levels + 8


def features(
    observation: Mapping[str, Shaped[np.ndarray, "batch ..."]],
) -> Float[np.ndarray, "batch feature"]:
    """The actor's input: logarithms of rates and sizes, and the slack of each possible download.

    The slack of a level is the buffer that would be left (s / 10, cut to [-3, 6]) if the next
    chunk arrived at the last, the harmonic mean, or the smallest of the measured throughputs.
    Missing past chunks repeat the mean of the known ones, missing future ones the next one.
    """
    throughput = np.asarray(observation["throughput_mbps"], dtype=np.float32)
    known = throughput > 0
    count = np.maximum(known.sum(axis=1, keepdims=True), 1).astype(np.float32)
    log_throughput = np.log(np.maximum(throughput, SLOWEST_MBPS)) * known
    mean = log_throughput.sum(axis=1, keepdims=True) / count
    log_throughput = np.where(known, log_throughput, mean)
    delay = np.log(np.maximum(observation["delay_s"], SHORTEST_S), dtype=np.float32) * known
    sizes = np.asarray(observation["sizes_mb"], dtype=np.float32)
    sizes = np.where(sizes > 0, sizes, sizes[:, :1])
    levels = sizes.shape[2]
    buffer = np.asarray(observation["buffer_s"], dtype=np.float32)[:, None]
    left = np.asarray(observation["chunks_left"], dtype=np.float32)[:, None]
    stall = np.asarray(observation["stall_s"], dtype=np.float32)[:, None]
    speeds = (
        np.exp(log_throughput[:, -1:]),
        1 / np.exp(-log_throughput).mean(axis=1, keepdims=True),
        np.exp(log_throughput.min(axis=1, keepdims=True)),
    )
    slacks = [np.clip((buffer - 8 * sizes[:, 0] / speed) / 10, -3, 6) for speed in speeds]
    columns = [
        log_throughput,
        delay,
        np.log(np.maximum(sizes, SMALLEST_MB)).reshape(len(sizes), -1),
        *slacks,
        np.eye(levels, dtype=np.float32)[np.asarray(observation["level"], dtype=np.int64)],
        mean,
        log_throughput.std(axis=1, keepdims=True),
        count / HISTORY,
        buffer / 10,
        np.log1p(buffer),
        np.log1p(stall),
        left / 48,
        np.minimum(left, 8) / 8,
    ]
    return np.concatenate(columns, axis=1, dtype=np.float32)


class Future:
    """The bandwidth that is still to come, which only the critic may see while training.

    The bandwidth does not depend on the actions, so a baseline that knows it leaves the policy
    gradient unbiased and takes away most of its variance.

    Source: Mao et al., "Variance Reduction for Reinforcement Learning in Input-Driven
        Environments", ICLR 2019; there the baseline is meta-learned, here it sees the input.

    Args:
        traces: one per parallel session.
        scale: factor on each session's bandwidth.
        step_s: resolution of the tabulated capacity.
    """

    def __init__(
        self,
        *,
        traces: Sequence[Trace],
        scale: Float[np.ndarray, " session"],
        step_s: float = 0.5,
    ) -> None:
        unique = {id(trace): trace for trace in traces}
        row = {key: i for i, key in enumerate(unique)}
        self._row = np.array([row[id(trace)] for trace in traces])
        tables = [_capacity(trace, step_s) for trace in unique.values()]
        self._cells = np.array([len(table) - 1 for table in tables], dtype=np.float64)[self._row]
        self._table = np.zeros((len(tables), max(map(len, tables))), dtype=np.float64)
        for line, table in zip(self._table, tables, strict=True):
            line[: len(table)] = table
        self._round = np.array([table[-1] for table in tables])[self._row]
        self._scale = scale
        self._step_s = step_s

    def __call__(
        self, time_s: Float[np.ndarray, " session"]
    ) -> Float[np.ndarray, "session window"]:
        """Log of the mean bandwidth (Mbit/s) in each window after `time_s` of trace time."""
        borders = np.asarray(HORIZONS_S, dtype=np.float64)
        cell = (time_s[:, None] + borders) / self._step_s
        rounds, cell = np.divmod(cell, self._cells[:, None])
        low = np.minimum(cell.astype(np.int64), self._cells[:, None].astype(np.int64) - 1)
        row = self._row[:, None]
        start = self._table[row, low]
        capacity = start + (self._table[row, low + 1] - start) * (cell - low)
        capacity += rounds * self._round[:, None]
        mean = np.diff(capacity, axis=1) / np.diff(borders) * self._scale[:, None]
        log: Float[np.ndarray, "session window"] = np.log(np.maximum(mean, 0.02), dtype=np.float32)
        return log


def _capacity(trace: Trace, step_s: float) -> Float[np.ndarray, " cell"]:
    """Megabits delivered since the trace's start, on a regular grid up to its end."""
    rows = curve(trace, packet_share=1.0)
    cells = max(int(np.ceil(rows[-1, 0] / step_s)), 1)
    megabits: Float[np.ndarray, " cell"] = np.interp(
        np.arange(cells + 1) * step_s, rows[:, 0], rows[:, 1] * 8e-6
    )
    return megabits
