"""A folder of our own files, which appears when it is complete."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that takes the place of `out` once it is complete, and else is gone.

    Raises:
        FileExistsError: `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"{out}: the folder to write must be empty or not exist. Name another one."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        inner = folder / "new"  # of the usual mode, which mkdtemp's is not
        inner.mkdir()
        yield inner
        inner.replace(out)
    finally:
        shutil.rmtree(folder)
