"""Flows of published CSVs, which hold statistics of whole flows and no packets."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from netllm_sims.files.csv_rows import number
from netllm_sims.flows.table import Flows


class Row(NamedTuple):
    """One flow of a file."""

    host: str
    day: str
    label: str
    protocol: int
    server_port: int
    statistics: list[float]


def table(rows: Sequence[Row], names: Sequence[str]) -> Flows:
    """The flows of some rows, with statistics of these names."""
    return Flows(
        host=np.array([row.host for row in rows], dtype=str),
        day=np.array([row.day for row in rows], dtype=str),
        label=np.array([row.label for row in rows], dtype=str),
        protocol=np.array([row.protocol for row in rows], np.int64),
        server_port=np.array([row.server_port for row in rows], np.int64),
        sizes_bytes=np.zeros((len(rows), 1)),
        gaps_ms=np.zeros((len(rows), 1)),
        statistics=np.array([row.statistics for row in rows], float).reshape(-1, len(names)),
        statistic_names=tuple(names),
    )


def statistic(path: Path, line: int, name: str, cell: str) -> float:
    """The number of a cell; 0 of an empty one, and of a rate over no time (Infinity or NaN)."""
    if not cell or cell.lower() in ("nan", "infinity", "inf"):
        return 0.0
    return number(path, line, name, cell)


def whole(path: Path, line: int, name: str, cell: str, most: int) -> int:
    """The whole number of a cell.

    Raises:
        ValueError: It is none from 0 to `most`, with file and line.
    """
    value = number(path, line, name, cell, least=0)
    if value > most or not math.isclose(value, round(value)):
        raise ValueError(
            f"{path}:{line}: `{name}` must be a whole number from 0 to {most:,}, got {cell!r:.60}. "
            "Correct or remove the line."
        )
    return round(value)
