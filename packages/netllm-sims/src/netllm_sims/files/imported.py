"""What an import of public data wrote, the same for every task."""

from pathlib import Path
from typing import NamedTuple


class Imported(NamedTuple):
    """What an import wrote."""

    out: Path
    """The folder."""
    made: int
    """What it holds, in units of the importer's `makes`; 1 for a video."""
    left_out: int
    """What of the files could not be used: runs, packets, rows or jobs."""
    settings: dict[str, str]
    """Fields of a setting that use the result."""
