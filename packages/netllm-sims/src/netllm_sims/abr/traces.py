"""Bandwidth traces: what they are and how they are read."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.abr.trace_formats import Points, lateness, parse
from netllm_sims.files import unit_warnings
from netllm_sims.files.number_tables import MOST
from netllm_sims.files.unit_warnings import Doubt

_LEAST_MEGABITS = 8e-6
_LEAST_MBPS = 1e-6
_MOST_MBPS = 200
_MOST_SAID_MBPS = 10_000
_LEAST_PEAK_MBPS = 0.02
_MOST_STEP_S = 100.0
_MOST_GAP_S = 300.0
"""Published traces have gaps of up to 10 s."""
_LEAST_PERIOD_S = 1.0


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
    point = _faulty_point(time_s, bandwidth_mbps)
    if point is not None:
        return point
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


def _faulty_point(
    time_s: Float[ndarray, "point"], bandwidth_mbps: Float[ndarray, "point"]
) -> tuple[int, str] | None:
    """First point whose time or bandwidth cannot be used, and how it breaks the rules."""
    finite = np.isfinite(time_s) & np.isfinite(bandwidth_mbps)
    back = np.diff(time_s, prepend=0.0) < 0
    large = (time_s > MOST) | (bandwidth_mbps > MOST)
    wrong = np.flatnonzero(~finite | back | large | (bandwidth_mbps < 0))
    if not len(wrong):
        return None
    i = int(wrong[0])
    if not finite[i]:
        return i, "time and bandwidth must be finite numbers. Correct or remove the line."
    if back[i]:
        before = time_s[i - 1] if i else 0.0
        return i, f"time must not run back, got {time_s[i]:g} s after {before:g} s. Sort by time."
    if large[i]:
        return i, (
            f"time and bandwidth must be at most {MOST:g}, got {time_s[i]:g} s and "
            f"{bandwidth_mbps[i]:g} Mbit/s. Correct or remove the line."
        )
    return i, f"bandwidth must be >= 0 Mbit/s, got {bandwidth_mbps[i]:g}. Write 0 for an outage."


def load_trace(path: str | Path, *, bin_s: float = 1.0) -> Trace:
    """Trace from a file in one of three formats, told apart by content.

    * two columns separated by blanks: time in s, bandwidth in Mbit/s (Pensieve, GENET, NetLLM);
    * Mahimahi: one integer per line, the millisecond at which a packet of 1,500 bytes may leave,
      counted in equal bins of about `bin_s` seconds, so that period and bytes stay what they are;
    * CSV with a header naming a time column (`time`, `time_s`, `time_ms`) and a bandwidth column
      (`bandwidth` or `throughput`, with `_mbps`, `_kbps` or `_bps`; Mbit/s without), in any order,
      others ignored.

    Times count from the trace's start. Blank lines and lines starting with `#` are skipped. The
    file may be packed by gzip, bzip2 or xz. Numbers that look like another unit are named by a
    warning of the logger `netllm_sims.files.unit_warnings`.

    Args:
        path: The file; its name becomes the trace's id.
        bin_s: Width of the bins of a Mahimahi file, in s.

    Raises:
        ValueError: The content is no trace; the message names file, line and remedy.
        FileNotFoundError: There is no such file.
    """
    trace, doubts = _load(Path(path), bin_s)
    unit_warnings.warn(path, doubts)
    return trace


def _load(path: Path, bin_s: float) -> tuple[Trace, list[Doubt]]:
    points = parse(path, bin_s=bin_s)
    fault = first_fault(points.time_s, points.bandwidth_mbps)
    if fault is not None:
        point, message = fault
        lines = points.lines if len(points.lines) else [1]
        where = f"{lines[0]}-{lines[-1]}" if point is None else lines[point]
        raise ValueError(f"{path}:{where}: {message}")
    return Trace(path.name, points.time_s, points.bandwidth_mbps), list(_odd(points))


def _odd(points: Points) -> Iterator[Doubt]:
    """What looks like another unit; a file that says its units is believed further."""
    usual, most = float(np.median(points.bandwidth_mbps)), float(points.bandwidth_mbps.max())
    if usual > (_MOST_SAID_MBPS if points.says_bandwidth else _MOST_MBPS):
        yield Doubt(
            f"the median bandwidth is {usual:,.0f} Mbit/s",
            f"at most {_MOST_MBPS:,} Mbit/s where the file does not name the unit",
            "If these are kbit/s, name the columns in a first line `time_s bandwidth_kbps` "
            "(`_mbps` if they are right).",
        )
    if most < _LEAST_PEAK_MBPS:
        yield Doubt(
            f"the bandwidth never exceeds {most * 1e3:.3g} kbit/s",
            f"at least {_LEAST_PEAK_MBPS * 1e3:g} kbit/s at some time",
            "Correct the unit that the header names, or write the bandwidth in Mbit/s.",
        )
    steps_s = np.diff(points.time_s)
    step_s, longest = float(np.median(steps_s)), int(steps_s.argmax())
    if step_s <= _MOST_STEP_S and steps_s[longest] > _MOST_GAP_S:
        yield Doubt(
            f"line {points.lines[longest + 1]} comes {steps_s[longest]:,.0f} s after the one "
            "before, and its bandwidth holds all that time",
            f"gaps of at most {_MOST_GAP_S:g} s",
            "If nothing was measured meanwhile, make two traces of it.",
        )
    if step_s > _MOST_STEP_S:
        yield Doubt(
            f"the median time between points is {step_s:,.0f} s",
            f"at most {_MOST_STEP_S:g} s",
            "If the times are ms, name the columns in a first line `time_ms bandwidth_mbps`.",
        )
    if points.time_s[-1] < _LEAST_PERIOD_S:
        yield Doubt(
            f"the whole trace lasts {points.time_s[-1]:.3g} s",
            f"at least {_LEAST_PERIOD_S:g} s",
            "Times must be s, or ms in a column `time_ms` and in Mahimahi's files.",
        )


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
    # a pipe or a link to nothing is no folder: it is refused by its name, not passed over
    files = sorted(p for p in folder.iterdir() if not (p.is_dir() or p.name.startswith(".")))
    if not files:
        raise ValueError(f"{folder}: a folder of traces must hold at least one file, got none.")
    loaded = [_load(file, bin_s) for file in files]
    odd = [
        (file, doubt) for file, (_, doubts) in zip(files, loaded, strict=True) for doubt in doubts
    ]
    unit_warnings.warn_of_files(folder, odd, of=len(files))
    return [trace for trace, _ in loaded]
