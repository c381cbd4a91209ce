"""HSDPA logs of Norway."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from netllm_sims.abr.importers._bandwidth_series import Series
from netllm_sims.abr.importers._byte_logs import logs


def traces(files: Iterable[Path]) -> Iterator[Series]:
    """A series per log `report.….log`.

    Columns: Unix time in s, a clock in ms, latitude, longitude, bytes received since the line
    above, ms since the line above. Bandwidth is 8 bits per byte over these ms.

    Raises:
        ValueError: A line of another form, with file and line.

    Source: Riiser, Vigmostad, Griwodz, Halvorsen: Commute path bandwidth traces from 3G networks
    (MMSys 2013), and datasets.simula.no/hsdpa-tcp-logs, "Log format".
    """
    return logs(files)
