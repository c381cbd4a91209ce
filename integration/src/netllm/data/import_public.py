"""Public data sets in the formats that the tasks read: which there are, and their import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netllm_sims.abr.importers import Imported

TASKS = ("abr",)
"""Tasks whose data can be imported."""


def sources(task: str) -> dict[str, str]:
    """What can be imported for a task: names, each with what it reads and makes.

    Raises:
        ValueError: There is nothing to import for this task.
    """
    if task not in TASKS:
        raise ValueError(
            f"There are importers for {' and '.join(TASKS)} only, got {task!r}. vp and cjs read "
            "their public formats as they are: see `--set` of `netllm test`."
        )
    from netllm_sims.abr.importers import IMPORTERS

    return {name: f"{one.makes} from {one.summary}" for name, one in IMPORTERS.items()}


def import_data(task: str, source: str, files: Sequence[Path], out: Path) -> Imported:
    """Read files of a public source, and write what they hold into a new folder.

    Args:
        task: The task.
        source: A name of `sources(task)`.
        files: The files.
        out: The folder; it must be empty or not exist.

    Raises:
        ValueError: Unknown task or source, or a file that cannot be read.
        FileExistsError: The folder holds something.
    """
    sources(task)
    from netllm_sims.abr import importers

    return importers.run(source, files, out)
