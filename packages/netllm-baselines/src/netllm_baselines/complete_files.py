"""Files of weights that become visible only when they are complete and on the disk."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def write(path: Path, content: bytes) -> None:
    """Write a file; a reader never sees half of it.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with named(path), part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a `.npz`, as `write` does."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write(path, content.getvalue())


@contextmanager
def named(path: Path) -> Iterator[None]:
    """A block that writes `path`: an error that names no file names it and says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        said = f"{error.strerror}. Is the disk full? Free space, then train again"
        raise OSError(error.errno, said, str(path)) from error
