"""The 5G (and 4G) data sets of University College Cork, written by G-NetTrack Pro."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from netllm_sims.abr.importers._bandwidth_series import Series, of_seconds
from netllm_sims.files.csv_rows import number, rows

_TIME = "%Y.%m.%d_%H.%M.%S"
_SET_BACK_S = 2.0


def traces(files: Iterable[Path]) -> Iterator[Series]:
    """A series per CSV file.

    `Timestamp` is like 2019.12.14_09.06.24, `DL_bitrate` the downlink in kbit/s up to then. Of rows
    within one second the mean counts. A row up to 2 s before the one above counts to the second of
    that one: in 1 of the 83 published files the phone's clock was set back. What an app drew is no
    more than what the network could give: the folders `Download` come nearest to it.

    Raises:
        ValueError: A row that is no such one, or time that runs back, with file and line.

    Source: Raca, Leahy, Sreenan, Quinlan: Beyond throughput, the next generation: a 5G dataset with
    channel and context metrics (MMSys 2020); github.com/uccmisl/5Gdataset. Raca, Quinlan, Zahran,
    Sreenan: Beyond throughput: a 4G LTE dataset with channel and context metrics (MMSys 2018), of
    the same logger, with other columns beside these two.
    """
    for path in files:
        points: list[tuple[float, list[float]]] = []
        for line, (stamp, kbps) in rows(path, ("Timestamp", "DL_bitrate")):
            try:
                now_s = (datetime.strptime(stamp, _TIME) - datetime.min).total_seconds()
            except ValueError:
                raise ValueError(
                    f"{path}:{line}: `Timestamp` must be like 2019.12.14_09.06.24, got "
                    f"{stamp!r:.60}. Correct or remove the line."
                ) from None
            if points and 0 < points[-1][0] - now_s <= _SET_BACK_S:
                now_s = points[-1][0]
            if points and now_s < points[-1][0]:
                raise ValueError(
                    f"{path}:{line}: time must not run back, got {stamp}. Sort the rows."
                )
            if not points or now_s > points[-1][0]:
                points.append((now_s, []))
            points[-1][1].append(number(path, line, "DL_bitrate", kbps, least=0) / 1e3)
        at_s = [at_s for at_s, _ in points]
        mbps = [float(np.mean(some)) for _, some in points]
        yield of_seconds(path.name.split(".csv")[0], str(path), at_s, mbps)
