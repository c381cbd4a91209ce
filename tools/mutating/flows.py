"""The loader of flows, and what their files say."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from mutating.files import NUMBER, text_of, written
from mutating.judging import Subject, Wrong

_NAMED = ("host", "day", "class", "protocol", "server_port", "sizes_bytes", "gaps_ms")
_HOSTS = ("10.0.0.7", "10.0.0.9", "10.0.1.4")


def _row(i: int) -> str:
    sizes = [60, -60, 52, *(100 + 37 * (i * k % 29) for k in range(i % 5))]
    gaps = [0.0, *(0.5 * (1 + i * k % 7) for k in range(1, len(sizes)))]
    packets = ",".join(" ".join(map(str, some)) for some in (sizes, gaps))
    day, name = f"2026-03-0{1 + i % 6}", ("web", "dns", "ssh")[i % 3]
    return f"{_HOSTS[i % 3]},{day},{name},{6 if i % 3 else 17},{443 + i},{packets},{i / 8}\n"


_ROWS = ",".join((*_NAMED, "duration_s")) + "\n" + "".join(map(_row, range(20)))


def _flows(path: Path) -> Any:
    from netllm_sims.flows.flow_files import load_flows

    flows = load_flows(path)
    counts = (flows.sizes_bytes != 0).sum(axis=1).tolist()
    series = [
        [one[:count].tolist() for one, count in zip(some, counts, strict=True)]
        for some in (flows.sizes_bytes, flows.gaps_ms)
    ]
    named = flows.host, flows.day, flows.label, flows.protocol, flows.server_port
    columns = [*(one.tolist() for one in named), *series]
    return {
        "rows": [list(row) for row in zip(*columns, strict=True)],
        "statistics": dict(zip(flows.statistic_names, flows.statistics.T.tolist(), strict=True)),
    }


def _said(path: Path) -> Any:
    lines = text_of(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    names, *rows = [row for row in csv.reader(lines) if any(map(str.strip, row))]
    names = [name.strip() for name in names]
    if any(len(row) != len(names) for row in rows):
        raise Wrong("a line has not as many columns as the header")
    if len({*names}) < len(names):
        raise Wrong("a column comes twice")
    tables = [dict(zip(names, map(str.strip, row), strict=True)) for row in rows]
    others = [name for name in names if name not in _NAMED]
    return {
        "rows": [
            [
                *(one[name] for name in _NAMED[:3]),
                *(float(one[name]) for name in _NAMED[3:5]),
                *([float(cell) for cell in one[name].split()] for name in _NAMED[5:]),
            ]
            for one in tables
        ],
        "statistics": {name: [float(one[name]) for one in tables] for name in others},
    }


SUBJECTS = {
    "flows-csv": Subject({"*": "text"}, written("flows.csv", _ROWS), _flows, NUMBER, _said),
}
