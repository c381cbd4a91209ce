"""Folders and files that become visible only when they are complete."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `target` when the block ends without an error.

    Raises:
        OSError: if it cannot be written; what was at `target` is then left as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield work
        work.chmod(0o755)
        old = work.with_name(work.name + "-old")
        if target.exists():
            os.replace(target, old)
        os.replace(work, target)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A path to write, which takes the place of `target` when the block ends without an error."""
    work = target.with_name(f".{target.name}.partial")
    try:
        yield work
        os.replace(work, target)
    except BaseException:
        work.unlink(missing_ok=True)
        raise
