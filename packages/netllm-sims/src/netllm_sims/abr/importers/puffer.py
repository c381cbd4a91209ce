"""Streams of Puffer, Stanford's television study."""

import re
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np

from netllm_sims.abr.importers._bandwidth_series import Series
from netllm_sims.files import reading
from netllm_sims.files.csv_rows import number, rows

_TIME = "time (ns GMT)"
_KEY = ("session_id", "index")
_LATEST_NS = 2**63

_Stream: TypeAlias = "tuple[int, array[int], array[float]]"
"""First line, times in ns and rates in bytes per second."""


def traces(files: Iterable[Path]) -> Iterator[Series]:
    """A series per stream (`session_id`, `index`) of `video_sent_….csv`.

    For each chunk that the server sent the row has the time in ns and `delivery_rate`, the kernel's
    estimate of the throughput (`tcpi_delivery_rate`), in bytes per second. Rows of a stream may
    have any order. With a `client_buffer_….csv` among the files, streams that never began to play
    (no event `startup`) are left out.

    Raises:
        ValueError: A row that is no such one, or a file of another header; with file and line.

    Source: puffer.stanford.edu/data-description; `influx_to_csv` of StanfordSNR/puffer-statistics,
    which writes the headers; Yan et al.: Learning in situ (NSDI 2020).
    """
    paths = list(files)
    buffers = [path for path in paths if _is_client_buffer(path)]
    played = {key for path in buffers for key in _started(path)}
    for path in paths:
        if path in buffers:
            continue
        for (session, index), (line, times, rates) in _streams(path).items():
            if buffers and (session, index) not in played:
                continue
            order = np.argsort(np.array(times), kind="stable")
            at = np.array(times)[order]
            at_s, mbps = (at - at[0]) / 1e9, np.array(rates)[order] * 8e-6
            name = f"{session}-{index}"
            yield Series(name, f"{path}:{line}", at_s, mbps, of_many=True)


def _is_client_buffer(path: Path) -> bool:
    with reading.opened(path) as stream:
        _, header = next(reading.lines(stream, path), (1, b""))
    return b"cum_rebuf" in header


def _started(path: Path) -> Iterator[tuple[str, str]]:
    for _, (session, index, event) in rows(path, (*_KEY, "event")):
        if event == "startup":
            yield session, index


def _streams(path: Path) -> dict[tuple[str, str], _Stream]:
    """The streams by session and index."""
    streams: dict[tuple[str, str], _Stream] = {}
    for line, (stamp, session, index, rate) in rows(path, (_TIME, *_KEY, "delivery_rate")):
        # whole numbers of 19 digits, of which a float keeps 16
        if not (re.fullmatch(r"[0-9]{1,19}", stamp) and int(stamp) < _LATEST_NS):
            raise ValueError(
                f"{path}:{line}: `{_TIME}` must be whole nanoseconds, got {stamp!r:.60}. Correct "
                "or remove the line."
            )
        new: _Stream = line, array("q"), array("d")
        _, times, rates = streams.setdefault((session, index), new)
        times.append(int(stamp))
        rates.append(number(path, line, "delivery_rate", rate, least=0))
    return streams
