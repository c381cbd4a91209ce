"""Logs of bytes that arrived per interval, as some measurements of mobile networks wrote them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from netllm_sims.abr.importers._bandwidth_series import Series, of_intervals
from netllm_sims.files import reading
from netllm_sims.files.number_tables import Layout, read_table


def logs(files: Iterable[Path]) -> Iterator[Series]:
    """A series per log; its last two columns are bytes and ms since the line above.

    Each line is an interval. They follow one another without the gaps in which nothing was
    measured. A line with 0 ms and 0 bytes is passed over.

    Raises:
        ValueError: A line without six numbers, or with a negative one of the last two, or bytes in
            0 ms.
    """
    for path in files:
        layout = Layout(
            width=6,
            columns=(4, 5),
            what="bytes and milliseconds",
            remedy="Is this the right source?",
        )
        with reading.opened(path) as stream:
            values, lines = read_table(reading.blocks(stream, path), path, layout)
        count, length_ms = values[:, 0], values[:, 1]
        wrong = np.flatnonzero((count < 0) | (length_ms < 0) | ((length_ms == 0) & (count > 0)))
        if len(wrong):
            i = wrong[0]
            raise ValueError(
                f"{path}:{lines[i]}: columns 5 and 6 must be bytes >= 0 and the ms > 0 in which "
                f"they came, got {count[i]:g} and {length_ms[i]:g}. Correct or remove the line."
            )
        some = length_ms > 0
        mbps = count[some] * 8e-3 / length_ms[some]
        yield of_intervals(path.name.removesuffix(".log"), str(path), length_ms[some], mbps)
