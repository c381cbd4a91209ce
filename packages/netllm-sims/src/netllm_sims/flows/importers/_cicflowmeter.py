"""CSV files of CICFlowMeter: a header, addresses, a label, and statistics of whole flows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from netllm_sims.files import csv_rows
from netllm_sims.flows.importers._statistics import Row, statistic, table, whole
from netllm_sims.flows.table import Flows

ADDRESSES = ("Flow ID", "Source Port", "Destination IP")
"""Columns that name a flow rather than describe it; they are left out."""


class Layout(NamedTuple):
    """What a data set calls its columns."""

    source: str
    """Name of the data set, for errors."""
    label: str
    times: str = ""
    """Column of the time at which a flow began; none if empty."""
    day: Callable[[Path, int, str], str] = lambda path, line, cell: "unknown"
    """Makes a day of that column's cell."""
    required: Sequence[str] = ()
    """Statistics by which the version is known."""


def flows(path: Path, layout: Layout) -> tuple[Flows, int]:
    """The flows of a file, and how many rows were empty."""
    named = ["Source IP", "Protocol", "Destination Port", layout.label]
    named += [layout.times] if layout.times else []
    try:
        names = csv_rows.header(path, [*named, *layout.required], encoding="cp1252")
    except ValueError as fault:
        raise ValueError(f"{fault} It must be {layout.source}.") from None
    others = {*named, *ADDRESSES}
    statistics = [name for name in names if name not in others and names.count(name) == 1]
    rows, empty = [], 0
    for line, cells in csv_rows.rows(path, [*named, *statistics], encoding="cp1252"):
        if not any(cells):
            empty += 1
            continue
        host, protocol, port, label, *rest = cells
        time = rest.pop(0) if layout.times else ""
        if not host or not label:
            raise ValueError(
                f"{path}:{line}: `Source IP` and `{layout.label}` must not be empty. Was the file "
                "cut?"
            )
        pairs = zip(statistics, rest, strict=True)
        rows.append(
            Row(
                host,
                layout.day(path, line, time),
                label.replace("\N{EN DASH}", "-").replace("\ufffd", "-"),
                whole(path, line, "Protocol", protocol, 255),
                whole(path, line, "Destination Port", port, 65_535),
                [statistic(path, line, name, cell) for name, cell in pairs],
            )
        )
    return table(rows, statistics), empty
