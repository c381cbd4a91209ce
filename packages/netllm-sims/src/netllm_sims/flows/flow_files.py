"""Our own format of flows: CSV files with a row for each flow.

The header names `host`, `day`, `class`, `protocol` and `server_port`, and `sizes_bytes` and
`gaps_ms` where packets are known, in any order. These two hold a number for each of the first
packets, with blanks between: its size, negative from the server, and the time since the one before.
All other columns are statistics, a number each.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from netllm_sims.files import csv_rows
from netllm_sims.files.csv_rows import number
from netllm_sims.flows.limits import LARGEST_GAP_MS, LARGEST_SIZE_BYTES, MOST_PACKETS
from netllm_sims.flows.table import Flows, joined, padded
from netllm_sims.own_data import files_of

NAMED = ("host", "day", "class", "protocol", "server_port")
PACKETS = ("sizes_bytes", "gaps_ms")


def load_flows(path: str | Path) -> Flows:
    """The flows of a file, or of all files `*.csv` of a folder.

    Args:
        path: The file or folder; files may be packed by gzip, bzip2 or xz.

    Raises:
        ValueError: A row that is none, with file and line; no flows; or files with different
            columns.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if not path.is_dir():
        return _read(path)
    files = [path / name for name in files_of(path) if ".csv" in name.lower()]
    if not files:
        raise ValueError(f"{path}: must hold files of flows, such as web.csv, got none.")
    tables = [_read(file) for file in files]
    for file, table in zip(files, tables, strict=True):
        check_columns(f"{file}:1", table, files[0].name, tables[0])
    return joined(tables)


def check_columns(where: object, flows: Flows, other: object, others: Flows) -> None:
    """Raise unless flows have the statistics of others, in the same order.

    Args:
        where: File, or folder, that they are from, for the error.
        flows: They.
        other: Name of that of the others.
        others: What they are compared with.

    Raises:
        ValueError: They have other ones.
    """
    if flows.statistic_names != others.statistic_names:
        raise ValueError(
            f"{where}: must have the columns of {other}, got other ones: "
            f"{', '.join(flows.statistic_names)!r:.200} in place of "
            f"{', '.join(others.statistic_names)!r:.200}. Keep other sources apart."
        )


def write_flows(path: Path, flows: Flows) -> None:
    """Write flows as a file that `load_flows` reads.

    Statistics keep their names, packets six significant digits.
    """
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        packets = PACKETS if flows.sizes_bytes.any() else ()
        writer.writerow([*NAMED, *packets, *flows.statistic_names])
        for row in range(len(flows)):
            count = np.count_nonzero(flows.sizes_bytes[row])
            series = [flows.sizes_bytes[row, :count], flows.gaps_ms[row, :count]]
            writer.writerow(
                [
                    flows.host[row],
                    flows.day[row],
                    flows.label[row],
                    flows.protocol[row],
                    flows.server_port[row],
                    *(" ".join(f"{value:.6g}" for value in one) for one in series if packets),
                    *(f"{value:.10g}" for value in flows.statistics[row]),
                ]
            )


def _read(path: Path) -> Flows:
    names = csv_rows.header(path, NAMED)
    packets = [name for name in PACKETS if name in names]
    statistics = tuple(name for name in names if name not in {*NAMED, *PACKETS})
    if len(packets) == 1 or not (packets or statistics):
        raise ValueError(
            f"{path}:1: the header must name both {' and '.join(PACKETS)}, or statistics, got "
            f"{', '.join(names)!r:.200}."
        )
    rows = list(_rows(path, [*NAMED, *packets, *statistics], bool(packets)))
    if not rows:
        raise ValueError(f"{path}:2: must hold a row for each flow, got none.")
    texts, numbers, sizes, gaps, rest = zip(*rows, strict=True)
    count = max(1, *map(len, sizes))
    host, day, label = np.array(texts, dtype=str).T
    protocol, port = np.array(numbers, np.int64).T
    return Flows(
        host=host,
        day=day,
        label=label,
        protocol=protocol,
        server_port=port,
        sizes_bytes=padded(sizes, count),
        gaps_ms=padded(gaps, count),
        statistics=np.array(rest, float).reshape(len(rows), len(statistics)),
        statistic_names=statistics,
    )


def _rows(path: Path, columns: Sequence[str], packets: bool) -> Iterator[tuple[object, ...]]:
    for line, cells in csv_rows.rows(path, columns):
        texts, (protocol, port), rest = cells[:3], cells[3:5], cells[5:]
        for name, cell in zip(NAMED, texts, strict=False):
            if not cell:
                raise ValueError(f"{path}:{line}: `{name}` must not be empty.")
        known = [
            _whole(path, line, "protocol", protocol, most=255),
            _whole(path, line, "server_port", port, most=65_535),
        ]
        sizes, gaps = _packets(path, line, *rest[:2]) if packets else ((), ())
        rest = rest[2:] if packets else rest
        names = columns[len(columns) - len(rest) :]
        yield (
            texts,
            known,
            sizes,
            gaps,
            [number(path, line, name, cell) for name, cell in zip(names, rest, strict=True)],
        )


def _whole(path: Path, line: int, name: str, cell: str, *, most: int) -> int:
    value = number(path, line, name, cell, least=0)
    if value > most or not value.is_integer():
        raise ValueError(
            f"{path}:{line}: `{name}` must be a whole number from 0 to {most:,}, got {cell!r:.60}. "
            "Correct or remove the line."
        )
    return int(value)


def _packets(path: Path, line: int, size: str, gap: str) -> tuple[Sequence[float], Sequence[float]]:
    sizes = [number(path, line, "sizes_bytes", cell) for cell in size.split()[:MOST_PACKETS]]
    gaps = [number(path, line, "gaps_ms", cell, least=0) for cell in gap.split()[:MOST_PACKETS]]
    if len(sizes) != len(gaps) or not sizes:
        raise ValueError(
            f"{path}:{line}: `sizes_bytes` and `gaps_ms` must hold a number for each packet, got "
            f"{len(sizes)} and {len(gaps)}. Was the file cut?"
        )
    if any(not 0 < abs(one) <= LARGEST_SIZE_BYTES for one in sizes) or sizes[0] < 0:
        raise ValueError(
            f"{path}:{line}: `sizes_bytes` must be sizes up to {LARGEST_SIZE_BYTES:,.0f}, none of "
            f"them 0, and negative from the server, which does not begin, got {size!r:.60}. The "
            "client is who sends the first packet."
        )
    if max(gaps) > LARGEST_GAP_MS:
        raise ValueError(
            f"{path}:{line}: `gaps_ms` must be at most {LARGEST_GAP_MS:g}, got {max(gaps):g}. Is "
            "it in milliseconds?"
        )
    return sizes, gaps
