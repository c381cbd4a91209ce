"""Bandwidth traces: what they are and how they are read."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.abr.formats import lateness, parse

_LEAST_MEGABITS = 8e-6
_LEAST_MBPS = 1e-6


@dataclass(frozen=True, eq=False)
class Trace:
    """Bandwidth over time; it repeats for ever with the period `time_s[-1]`.

    Between `time_s[i-1]` and `time_s[i]` the bandwidth is `bandwidth_mbps[i]`; the first segment
    reaches from 0 to `time_s[1]`, so `bandwidth_mbps[0]` is never used (as in Pensieve's and
    NetLLM's simulators).

    Raises:
        ValueError: Fewer than two points, time that runs back, is negative or does not count from
            the trace's start, a bandwidth that is negative or not finite, or hardly any bandwidth
            at all. A moment of zero bandwidth is legal.
    """

    id: str
    """Name, unique within its folder."""
    time_s: Float[ndarray, "point"]
    """Seconds since the trace's start."""
    bandwidth_mbps: Float[ndarray, "point"]
    """Mbit/s up to the point."""

    def __post_init__(self) -> None:
        for name in ("time_s", "bandwidth_mbps"):
            values = np.array(getattr(self, name), dtype=np.float64)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        fault = first_fault(self.time_s, self.bandwidth_mbps)
        if fault is not None:
            point, message = fault
            where = f"Trace `{self.id}`" + ("" if point is None else f", point {point}")
            raise ValueError(f"{where}: {message}")

    @property
    def period_s(self) -> float:
        """Seconds after which the trace repeats."""
        return float(self.time_s[-1])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the points: equal for traces of equal content, whatever their names."""
        return hashlib.sha256(self.time_s.tobytes() + self.bandwidth_mbps.tobytes()).hexdigest()


def first_fault(
    time_s: Float[ndarray, "point"], bandwidth_mbps: Float[ndarray, "point"]
) -> tuple[int | None, str] | None:
    """First point that breaks the rules of a trace (None: the whole trace does), and how."""
    if time_s.shape != bandwidth_mbps.shape or time_s.ndim != 1 or len(time_s) < 2:
        return None, (
            "a trace must hold at least two points (time, bandwidth), "
            f"got {len(time_s)} times and {len(bandwidth_mbps)} bandwidths. Record for longer."
        )
    finite = np.isfinite(time_s) & np.isfinite(bandwidth_mbps)
    back = np.diff(time_s, prepend=0.0) < 0
    wrong = np.flatnonzero(~finite | back | (bandwidth_mbps < 0))
    if len(wrong):
        i = int(wrong[0])
        if not finite[i]:
            return i, "time and bandwidth must be finite numbers. Correct or remove the line."
        if back[i]:
            before = time_s[i - 1] if i else 0.0
            return (
                i,
                f"time must not run back, got {time_s[i]:g} s after {before:g} s. Sort by time.",
            )
        return (
            i,
            f"bandwidth must be >= 0 Mbit/s, got {bandwidth_mbps[i]:g}. Write 0 for an outage.",
        )
    late = lateness(time_s[0], time_s[-1])
    if late is not None:
        return 0, late
    megabits = float(np.diff(time_s, prepend=0.0)[1:] @ bandwidth_mbps[1:])
    if not megabits > 0:
        return None, (
            "a trace must have some bandwidth, got 0 Mbit/s over its whole length "
            "(its first value is never used). Remove this trace."
        )
    if megabits < max(_LEAST_MEGABITS, _LEAST_MBPS * time_s[-1]):
        return None, (
            "a trace must deliver at least 1 byte, and 1 bit/s in the mean, got "
            f"{megabits * 1e6:.3g} bits in {time_s[-1]:.10g} s. Write the bandwidth in Mbit/s, or "
            "remove this trace."
        )
    return None


def load_trace(path: str | Path, *, bin_s: float = 1.0) -> Trace:
    """Trace from a file in one of three formats, told apart by content.

    * two columns separated by blanks: time in s, bandwidth in Mbit/s (Pensieve, GENET, NetLLM);
    * Mahimahi: one integer per line, the millisecond at which a packet of 1,500 bytes may leave,
      counted in equal bins of about `bin_s` seconds, so that period and bytes stay what they are;
    * CSV with a header naming a time column (`time`, `time_s`, `time_ms`) and a bandwidth column
      (`bandwidth` or `throughput`, with `_mbps`, `_kbps` or `_bps`; Mbit/s without), in any order,
      others ignored.

    Times count from the trace's start. Blank lines and lines starting with `#` are skipped.

    Args:
        path: The file; its name becomes the trace's id.
        bin_s: Width of the bins of a Mahimahi file, in s.

    Raises:
        ValueError: The content is no trace; the message names file, line and remedy.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    points = parse(path, bin_s=bin_s)
    fault = first_fault(points.time_s, points.bandwidth_mbps)
    if fault is not None:
        point, message = fault
        lines = points.lines or [1]
        where = f"{lines[0]}-{lines[-1]}" if point is None else lines[point]
        raise ValueError(f"{path}:{where}: {message}")
    return Trace(path.name, points.time_s, points.bandwidth_mbps)


def load_traces(folder: str | Path, *, bin_s: float = 1.0) -> list[Trace]:
    """Traces of a folder in the order of their file names, without hidden files and subfolders.

    Raises:
        ValueError: A file is no trace, or the folder holds none.
        FileNotFoundError: There is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: there is no such folder of traces. Correct the path; the published ones "
            "come with `netllm data fetch abr`."
        )
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not files:
        raise ValueError(f"{folder}: a folder of traces must hold at least one file, got none.")
    return [load_trace(file, bin_s=bin_s) for file in files]
