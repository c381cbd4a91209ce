"""The file formats of bandwidth traces, told apart by content."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

_PACKET_MEGABITS = 1500 * 8e-6
_SECONDS = {"time": 1.0, "time_s": 1.0, "timestamp": 1.0, "timestamp_s": 1.0, "time_ms": 1e-3,
            "timestamp_ms": 1e-3}  # fmt: skip
_MEGABITS = {"": 1.0, "_mbps": 1.0, "_kbps": 1e-3, "_bps": 1e-6}
_BANDWIDTH = {name + unit: factor for name in ("bandwidth", "throughput") for unit, factor in
              _MEGABITS.items()} | {"mbps": 1.0, "kbps": 1e-3, "bps": 1e-6}  # fmt: skip

Line = tuple[int, str]


class Points(NamedTuple):
    """Points of a trace and the line of the file that each came from."""

    time_s: Float[ndarray, "point"]
    bandwidth_mbps: Float[ndarray, "point"]
    lines: list[int]


def parse(path: Path, *, bin_s: float) -> Points:
    """Points of the trace file `path`, not yet checked for meaning.

    Raises:
        ValueError: A line cannot be read, or the file is empty; names file, line and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: a trace must be a text file, got other bytes ({error})."
        ) from None
    lines = [
        (number, line.strip())
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise ValueError(
            f"{path}:1: a trace file must hold at least two points, got an empty file. Remove it."
        )
    first = lines[0][1]
    names = _split(first)
    if any(name in _SECONDS or name in _BANDWIDTH for name in names) or re.search("[,;]", first):
        return _columns(path, lines, names)
    if re.fullmatch(r"[+-]?\d+", first):
        return _packets(path, lines, bin_s)
    return _table(path, lines, (0, 1), (1.0, 1.0), 2)


def _split(line: str) -> list[str]:
    cells = re.split(r"[,;\t]", line) if re.search(r"[,;\t]", line) else line.split()
    return [cell.strip().strip('"').lower() for cell in cells]


def _columns(path: Path, lines: list[Line], names: list[str]) -> Points:
    number, header = lines[0]
    time = next((i for i, name in enumerate(names) if name in _SECONDS), None)
    bandwidth = next((i for i, name in enumerate(names) if name in _BANDWIDTH), None)
    if time is None or bandwidth is None:
        raise ValueError(
            f"{path}:{number}: the header must name a time column ({', '.join(_SECONDS)}) and a bandwidth column "
            f"({', '.join(_BANDWIDTH)}), got {header!r}. Add or rename it, e.g. `time_s,bandwidth_mbps`."
        )
    factors = (_SECONDS[names[time]], _BANDWIDTH[names[bandwidth]])
    return _table(path, lines[1:], (time, bandwidth), factors, len(names))


def _table(
    path: Path,
    lines: list[Line],
    columns: tuple[int, int],
    factors: tuple[float, float],
    width: int,
) -> Points:
    separated = [(number, _split(line)) for number, line in lines]
    rows = []
    for number, cells in separated:
        if len(cells) != width:
            raise ValueError(
                f"{path}:{number}: the line must hold {width} columns, got {len(cells)}. "
                "Write time in s and bandwidth in Mbit/s, or give the file a header."
            )
        try:
            rows.append([float(cells[column]) for column in columns])
        except ValueError:
            shown = " ".join(cells)
            raise ValueError(
                f"{path}:{number}: time and bandwidth must be numbers, got {shown!r}. "
                "Correct or remove the line."
            ) from None
    values = np.array(rows, dtype=np.float64).reshape(-1, 2) * factors
    return Points(values[:, 0], values[:, 1], [number for number, _ in lines])


def _packets(path: Path, lines: list[Line], bin_s: float) -> Points:
    if not bin_s > 0:
        raise ValueError(f"`bin_s` must be > 0 s, got {bin_s}.")
    times = []
    for number, line in lines:
        if not re.fullmatch(r"\d+", line):
            raise ValueError(
                f"{path}:{number}: a Mahimahi trace must hold one whole millisecond >= 0 per line, got {line!r}. "
                "Correct or remove the line."
            )
        if times and int(line) < times[-1]:
            raise ValueError(
                f"{path}:{number}: time must not run back, got {line} ms after {times[-1]} ms. Sort by time."
            )
        times.append(int(line))
    if times[-1] == 0:
        raise ValueError(
            f"{path}:{lines[-1][0]}: a Mahimahi trace must end after 0 ms, which is its period. Record for longer."
        )
    period_s = times[-1] / 1000
    bins = max(1, round(period_s / bin_s))
    # a packet at an edge belongs to the bin that ends there: a Mahimahi trace ends with its last packet
    index = np.maximum(np.ceil(np.array(times) * bins / times[-1]).astype(int) - 1, 0)
    mbps = np.bincount(index, minlength=bins) * _PACKET_MEGABITS * bins / period_s
    time_s = np.linspace(0.0, period_s, bins + 1)
    last = [lines[0][0]] + [
        lines[max(0, i - 1)][0] for i in np.cumsum(np.bincount(index, minlength=bins))
    ]
    return Points(time_s, np.concatenate([mbps[:1], mbps]), last)
