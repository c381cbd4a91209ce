"""Whether results can be written, asked before hours of work."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import uuid4

_BYTES = 4_096


def check_folder(folder: Path, *, files: tuple[str, ...] = ()) -> None:
    """Raise unless files can be written in a folder, which may be missing and is left as it is.

    Where it is missing, a folder is made and written in what there is above it, and taken away.

    Args:
        folder: the folder.
        files: names that files in it will have.

    Raises:
        NotADirectoryError: if it is a file, or lies below one.
        IsADirectoryError: if one of the files is a folder.
        OSError: naming the folder, if it cannot be made or written.
    """
    from netllm_adapt.files.writing import writing

    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} must be a folder, got a file. Choose another place.")
    for name in files:
        if (folder / name).is_dir():
            raise IsADirectoryError(f"{folder / name} must be a file, got a folder. Move it away.")
    probe = there / f".probe-{uuid4().hex}"
    with writing(folder, probe):
        try:
            probe.mkdir()
            (probe / "file").write_bytes(bytes(_BYTES))
        finally:
            shutil.rmtree(probe, ignore_errors=True)


def check_file(file: Path) -> None:
    """Raise unless a file can be written; nothing is left behind.

    Raises:
        IsADirectoryError: if it is a folder.
        OSError: naming its folder, if that cannot be made or written.
    """
    if file.is_dir():
        raise IsADirectoryError(f"{file} must be a file, got a folder. Choose another name.")
    check_folder(file.parent)
