"""The file formats of bandwidth traces, told apart by content."""

import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

_PACKET_MEGABITS = 1500 * 8e-6
_TIME = {"time": 1.0, "timestamp": 1.0, "time_s": 1.0, "timestamp_s": 1.0}
_TIME |= {"time_ms": 1e-3, "timestamp_ms": 1e-3}
_UNITS = {"": 1.0, "_mbps": 1.0, "_kbps": 1e-3, "_bps": 1e-6}
_BANDWIDTH = {"mbps": 1.0, "kbps": 1e-3, "bps": 1e-6}
_BANDWIDTH |= {"bandwidth" + unit: factor for unit, factor in _UNITS.items()}
_BANDWIDTH |= {"throughput" + unit: factor for unit, factor in _UNITS.items()}

_LATE_S = 3600.0
_MOST_BINS = 10_000_000

Line = tuple[int, str]


class Points(NamedTuple):
    """Points of a trace and the line of the file that each came from."""

    time_s: Float[ndarray, "point"]
    bandwidth_mbps: Float[ndarray, "point"]
    lines: list[int]


class Columns(NamedTuple):
    """How the lines of a table are read."""

    time: int
    bandwidth: int
    width: int
    separator: str | None = None
    seconds: float = 1.0
    mbps: float = 1.0


def parse(path: Path, *, bin_s: float) -> Points:
    """Points of the trace file `path`, not yet checked for meaning.

    Args:
        path: The file.
        bin_s: Width of the bins into which Mahimahi's packets are counted, in s.

    Raises:
        ValueError: A line cannot be read, or the file is empty; names file, line and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(
            f"{path}:1: a trace must be a text file, got other bytes. Unpack or export it as text."
        ) from None
    numbered = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    lines = [(number, line) for number, line in numbered if line and not line.startswith("#")]
    if not lines:
        raise ValueError(
            f"{path}:1: a trace file must hold at least two points, got an empty file. Remove it."
        )
    if re.fullmatch('"[^"]*"', lines[0][1]):  # as some spreadsheets quote lines as a whole
        lines = [(number, re.sub('^"([^"]*)"$', r"\1", line)) for number, line in lines]
    first = lines[0][1]
    bare = re.sub('"[^"]*"', "", first)
    separator = next((mark for mark in ",;\t" if mark in bare), None)
    names = [_name(cell) for cell in _cells(first, separator)]
    if separator in (",", ";") or any(name in _TIME or name in _BANDWIDTH for name in names):
        return _table(path, lines[1:], _header(path, lines[0], names, separator))
    if re.fullmatch(r"[+-]?\d+", first):
        return _packets(path, lines, bin_s)
    return _table(path, lines, Columns(time=0, bandwidth=1, width=2))


def lateness(first_s: float, last_s: float) -> str | None:
    """How a trace's times break the rule that they count from its start, such as epoch times do.

    The link would keep one bandwidth for ever: up to the first point, longer than all the rest.
    """
    if not first_s > max(last_s - first_s, _LATE_S):
        return None
    return (
        f"time must count from the trace's start, got {first_s:.10g} s at its first point and "
        f"{last_s - first_s:.10g} s from there to its end. Subtract the first time from all."
    )


def _cells(line: str, separator: str | None) -> list[str]:
    """The cells of a line; a separator within quotes is text."""
    if separator is None or len(line) > csv.field_size_limit():
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator))


def _name(cell: str) -> str:
    return cell.strip().strip('"').lower()


def _header(path: Path, line: Line, names: list[str], separator: str | None) -> Columns:
    time = next((i for i, name in enumerate(names) if name in _TIME), None)
    bandwidth = next((i for i, name in enumerate(names) if name in _BANDWIDTH), None)
    if time is None or bandwidth is None:
        raise ValueError(
            f"{path}:{line[0]}: the header must name a time column ({', '.join(_TIME)}) and a "
            f"bandwidth column ({', '.join(_BANDWIDTH)}), got {line[1]!r}. "
            "Add or correct it, e.g. `time_s,bandwidth_mbps`."
        )
    seconds, mbps = _TIME[names[time]], _BANDWIDTH[names[bandwidth]]
    return Columns(time, bandwidth, len(names), separator, seconds, mbps)


def _table(path: Path, lines: list[Line], columns: Columns) -> Points:
    time_s, bandwidth_mbps = [], []
    for number, line in lines:
        quoted = '"' in line
        cells = _cells(line, columns.separator) if quoted else line.split(columns.separator)
        if len(cells) != columns.width:
            raise ValueError(
                f"{path}:{number}: the line must hold {columns.width} columns, got {line!r}. "
                "Write time in s and bandwidth in Mbit/s, or give the file a header."
            )
        try:
            time_s.append(float(cells[columns.time].strip('" ')))
            bandwidth_mbps.append(float(cells[columns.bandwidth].strip('" ')))
        except ValueError:
            raise ValueError(
                f"{path}:{number}: time and bandwidth must be numbers, got {line!r}. "
                "Correct or remove the line."
            ) from None
    return Points(
        np.array(time_s) * columns.seconds,
        np.array(bandwidth_mbps) * columns.mbps,
        [number for number, _ in lines],
    )


def _packets(path: Path, lines: list[Line], bin_s: float) -> Points:
    if not bin_s > 0:
        raise ValueError(f"`bin_s` must be > 0 s, got {bin_s}.")
    times_ms = _milliseconds(path, lines)
    period_s = times_ms[-1] / 1000
    bins = max(1, round(min(period_s / bin_s, _MOST_BINS + 1)))
    late = lateness(times_ms[0] / 1000, period_s)
    if late is not None:
        raise ValueError(f"{path}:{lines[0][0]}: {late}")
    if bins > _MOST_BINS:
        raise ValueError(
            f"{path}:{lines[-1][0]}: a trace of {period_s:.10g} s must have at most "
            f"{_MOST_BINS:,} bins, got more with `bin_s` of {bin_s:g} s. Correct the time or "
            "widen the bins."
        )
    # a packet on an edge belongs to the bin before it, as the last packet ends the last bin
    of = np.maximum(np.ceil(times_ms * (bins / times_ms[-1])).astype(int) - 1, 0)
    counts = np.bincount(np.minimum(of, bins - 1), minlength=bins)
    mbps = counts * (_PACKET_MEGABITS * bins / period_s)
    ends = np.concatenate([[0], np.maximum(np.cumsum(counts) - 1, 0)])
    return Points(
        np.linspace(0.0, period_s, bins + 1),
        np.concatenate([mbps[:1], mbps]),
        [lines[i][0] for i in ends],
    )


def _milliseconds(path: Path, lines: list[Line]) -> Float[ndarray, "packet"]:
    times_ms: list[int] = []
    for number, line in lines:
        if not re.fullmatch(r"\d{1,15}", line):
            raise ValueError(
                f"{path}:{number}: a Mahimahi trace must hold one whole millisecond >= 0 per line, "
                f"of at most 15 digits, got {line[:40]!r}. Correct or remove the line."
            )
        if times_ms and int(line) < times_ms[-1]:
            raise ValueError(
                f"{path}:{number}: time must not run back, got {line} ms after {times_ms[-1]} ms. "
                "Sort by time."
            )
        times_ms.append(int(line))
    if times_ms[-1] == 0:
        raise ValueError(
            f"{path}:{lines[-1][0]}: the last line of a Mahimahi trace is its period and must be "
            "> 0 ms, got 0. Record for longer."
        )
    return np.array(times_ms, dtype=np.float64)
