"""Warnings of data that can be read but seem to be in another unit, or in other axes."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

_log = logging.getLogger(__name__)
_warned: set[str] = set()


class Doubt(NamedTuple):
    """What is odd about some data."""

    seen: str
    """What they hold, such as `the median bandwidth is 1,850 Mbit/s`."""
    expected: str
    """What such data hold, such as `0.02 to 200 Mbit/s`."""
    remedy: str
    """What to do if they are wrong, a sentence."""


def warn(where: object, doubts: Sequence[Doubt]) -> None:
    """Warn of each doubt, once in a process, through the logger of this module.

    Args:
        where: The file or folder.
        doubts: What is odd about it.
    """
    for doubt in doubts:
        message = f"{where}: {doubt.seen}, expected {doubt.expected}. {doubt.remedy}"
        if message not in _warned:
            _warned.add(message)
            _log.warning("%s", message)


def warn_of_files(where: object, doubts: Sequence[tuple[object, Doubt]], *, of: int) -> None:
    """Warn of the doubts about the files of a folder, once per kind of remedy.

    Args:
        where: The folder.
        doubts: Each file with what is odd about it.
        of: Number of files in the folder.
    """
    kinds: dict[str, list[tuple[object, Doubt]]] = {}
    for file, doubt in doubts:
        kinds.setdefault(doubt.remedy, []).append((file, doubt))
    for alike in kinds.values():
        file, doubt = alike[0]
        if len(alike) == 1:
            warn(file, [doubt])
        else:
            seen = f"in {len(alike)} of {of} files, first in {file}, {doubt.seen}"
            warn(where, [doubt._replace(seen=seen)])
