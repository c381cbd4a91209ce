"""4G/LTE logs of Ghent."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from netllm_sims.abr.importers._bandwidth_series import Series
from netllm_sims.abr.importers._byte_logs import logs


def traces(files: Iterable[Path]) -> Iterator[Series]:
    """A series per log `report_bus_0001.log`.

    Columns: Unix time in ms, ms since the start, latitude, longitude, bytes received since the line
    above, ms since the line above. Bandwidth is 8 bits per byte over these ms.

    Raises:
        ValueError: A line of another form, with file and line.

    Source: van der Hooft et al.: HTTP/2-based adaptive streaming of HEVC video over 4G/LTE networks
    (IEEE Communications Letters 2016), and users.ugent.be/~jvdrhoof/dataset-4g.
    """
    return logs(files)
