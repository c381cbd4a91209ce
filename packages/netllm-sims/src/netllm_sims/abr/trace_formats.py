"""The file formats of bandwidth traces, told apart by content."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.files import reading
from netllm_sims.files.number_tables import Layout, cells, first_line, read_table, without_first
from netllm_sims.files.reading import Block

_PACKET_MEGABITS = 1500 * 8e-6
_TIME = {"time": 1.0, "timestamp": 1.0, "time_s": 1.0, "timestamp_s": 1.0}
_TIME |= {"time_ms": 1e-3, "timestamp_ms": 1e-3}
_UNITS = {"": 1.0, "_mbps": 1.0, "_kbps": 1e-3, "_bps": 1e-6}
_BANDWIDTH = {"mbps": 1.0, "kbps": 1e-3, "bps": 1e-6}
_BANDWIDTH |= {"bandwidth" + unit: factor for unit, factor in _UNITS.items()}
_BANDWIDTH |= {"throughput" + unit: factor for unit, factor in _UNITS.items()}

_LATE_S = 3600.0
_MOST_BINS = 10_000_000
_EMPTY = "a trace file must hold at least two points, got an empty file. Remove it."
_QUOTED = rb'(?m)^[ \t]*"([^"\n]*)"[ \t]*$'

Line = tuple[int, str]


class Points(NamedTuple):
    """Points of a trace and the line of the file that each came from."""

    time_s: Float[ndarray, "point"]
    bandwidth_mbps: Float[ndarray, "point"]
    lines: Int[ndarray, "point"]
    says_time: bool
    """Whether the file itself says the unit of its times."""
    says_bandwidth: bool
    """Whether the file itself says the unit of its bandwidths."""


class Columns(NamedTuple):
    """How the lines of a table are read."""

    time: int
    bandwidth: int
    width: int
    separator: str | None = None
    seconds: float = 1.0
    mbps: float = 1.0
    says_time: bool = False
    says_bandwidth: bool = False


def parse(path: Path, *, bin_s: float) -> Points:
    """Points of the trace file `path`, perhaps packed, not yet checked for meaning.

    Args:
        path: The file.
        bin_s: Width of the bins into which Mahimahi's packets are counted, in s.

    Raises:
        ValueError: No regular file or more of it than `reading` admits, a line that cannot be read,
            or an empty file; names file, line and remedy.
    """
    with reading.opened(path) as stream:
        blocks = reading.blocks(stream, path)
        line, rest = first_line(blocks, path, empty=_EMPTY)
        if re.fullmatch('"[^"]*"', line[1]):  # as some spreadsheets quote lines as a whole
            line = line[0], line[1].strip('"')
            rest = (Block(n, re.sub(_QUOTED, rb"\1", content)) for n, content in rest)
        bare = re.sub('"[^"]*"', "", line[1])
        separator = next((mark for mark in ",;\t" if mark in bare), None)
        names = [_name(cell) for cell in cells(line[1], separator)]
        if separator in (",", ";") or any(name in _TIME or name in _BANDWIDTH for name in names):
            columns = _header(path, line, names, separator)
            return _table(path, without_first(rest), columns)
        if re.fullmatch(r"[+-]?\d+", line[1]):
            return _packets(path, rest, bin_s)
        return _table(path, rest, Columns(time=0, bandwidth=1, width=2))


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


def _name(cell: str) -> str:
    return cell.strip().strip('"').lower()


def _header(path: Path, line: Line, names: list[str], separator: str | None) -> Columns:
    time = next((i for i, name in enumerate(names) if name in _TIME), None)
    bandwidth = next((i for i, name in enumerate(names) if name in _BANDWIDTH), None)
    if time is None or bandwidth is None or line[1].count('"') % 2:
        raise ValueError(
            f"{path}:{line[0]}: the header must name a time column ({', '.join(_TIME)}) and a "
            f"bandwidth column ({', '.join(_BANDWIDTH)}), got {line[1]!r:.200}. "
            "Add or correct it, e.g. `time_s,bandwidth_mbps`."
        )
    seconds, mbps = _TIME[names[time]], _BANDWIDTH[names[bandwidth]]
    says = "_" in names[time], names[bandwidth].endswith("bps")
    return Columns(time, bandwidth, len(names), separator, seconds, mbps, *says)


def _table(path: Path, blocks: Iterator[Block], columns: Columns) -> Points:
    layout = Layout(
        width=columns.width,
        columns=(columns.time, columns.bandwidth),
        separator=columns.separator,
        what="time and bandwidth",
        remedy="Write time in s and bandwidth in Mbit/s, or give the file a header.",
    )
    values, lines = read_table(blocks, path, layout)
    return Points(
        values[:, 0] * columns.seconds,
        values[:, 1] * columns.mbps,
        lines,
        columns.says_time,
        columns.says_bandwidth,
    )


def _packets(path: Path, blocks: Iterator[Block], bin_s: float) -> Points:
    if not bin_s > 0:
        raise ValueError(f"`bin_s` must be > 0 s, got {bin_s}.")
    times_ms, lines = _milliseconds(path, blocks)
    period_s = times_ms[-1] / 1000
    bins = max(1, round(min(period_s / bin_s, _MOST_BINS + 1)))
    late = lateness(times_ms[0] / 1000, period_s)
    if late is not None:
        raise ValueError(f"{path}:{lines[0]}: {late}")
    if bins > _MOST_BINS:
        raise ValueError(
            f"{path}:{lines[-1]}: a trace of {period_s:.10g} s must have at most "
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
        lines[ends],
        says_time=True,
        says_bandwidth=True,
    )


def _milliseconds(
    path: Path, blocks: Iterator[Block]
) -> tuple[Float[ndarray, "packet"], Int[ndarray, "packet"]]:
    layout = Layout(width=1, columns=(0,), what="milliseconds")
    values, lines = read_table(_whole(path, blocks), path, layout)
    times_ms = values[:, 0]
    back = np.flatnonzero(np.diff(times_ms) < 0)
    if len(back):
        i = int(back[0])
        raise ValueError(
            f"{path}:{lines[i + 1]}: time must not run back, got {times_ms[i + 1]:.0f} ms after "
            f"{times_ms[i]:.0f} ms. Sort by time."
        )
    if times_ms[-1] == 0:
        raise ValueError(
            f"{path}:{lines[-1]}: the last line of a Mahimahi trace is its period and must be "
            "> 0 ms, got 0. Record for longer."
        )
    return times_ms, lines


def _whole(path: Path, blocks: Iterator[Block]) -> Iterator[Block]:
    """The blocks, checked to hold whole numbers only; raises at the first line that is none."""
    for block in blocks:
        if block.content.translate(None, b"0123456789\n") or re.search(rb"\d{16}", block.content):
            content = reading.text(block.content, path, line=block.line)
            for number, line in enumerate(map(str.strip, content.split("\n")), block.line):
                if line and not line.startswith("#") and not re.fullmatch(r"[0-9]{1,15}", line):
                    raise ValueError(
                        f"{path}:{number}: a Mahimahi trace must hold one whole millisecond >= 0 "
                        f"per line, of at most 15 digits, got {line[:40]!r}. Correct or remove the "
                        "line."
                    )
        yield block
