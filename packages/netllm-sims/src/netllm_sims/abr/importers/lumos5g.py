"""Lumos5G 1.0: 5G throughput in Minneapolis."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from netllm_sims.abr.importers._bandwidth_series import Series, of_seconds
from netllm_sims.files.csv_rows import number, rows

_COLUMNS = ("mobility_mode", "trajectory_direction", "run_num", "seq_num", "Throughput")


def traces(files: Iterable[Path]) -> Iterator[Series]:
    """A series per run: rows of one `mobility_mode`, `trajectory_direction` and `run_num`.

    `seq_num` counts the seconds of a run, `Throughput` is the TCP downlink of a second in Mbit/s. A
    second that is missing has the bandwidth of the one after it; rows without a throughput are
    missing.

    Raises:
        ValueError: A row that is no such one, or seconds that do not rise, with file and line.

    Source: Narayanan et al.: Lumos5G (IMC 2020), README of the data set, "Dataset columns".
    """
    for path in files:
        runs: dict[tuple[str, ...], list[tuple[float, float]]] = {}
        for line, (mode, direction, run, second, throughput) in rows(path, _COLUMNS):
            if throughput.lower() in ("", "na", "nan"):
                continue
            points = runs.setdefault((mode, direction, run), [])
            now_s = number(path, line, "seq_num", second)
            if points and now_s <= points[-1][0]:
                raise ValueError(
                    f"{path}:{line}: `seq_num` must rise within a run, got {second} after "
                    f"{points[-1][0]:g}. Sort the rows."
                )
            points.append((now_s, number(path, line, "Throughput", throughput, least=0)))
        for key, points in runs.items():
            at_s = [at for at, _ in points]
            mbps = [rate for _, rate in points]
            name = "-".join([path.name.split(".csv")[0], *key])
            yield of_seconds(name, str(path), at_s, mbps, of_many=True)
