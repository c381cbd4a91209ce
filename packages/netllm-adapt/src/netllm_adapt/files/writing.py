"""Folders and files that become visible only when they are complete and on the disk."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from netllm_adapt.files.locks import lock_names

AGAIN = "run the command again"
"""What to do unless the writer knows better, once there is room."""
_ROOM = {
    errno.ENOSPC: "Free space on that disk",
    errno.EDQUOT: "Free space within the quota",
    errno.EFBIG: "Free space or allow larger files (`ulimit -f`)",
}
_TRIES, _PAUSE_S = 10, 0.05


def check_replaceable(
    folder: Path,
    kind: str = "",
    *,
    ours: Callable[[Path], bool] = lambda folder: False,
    allowed: Iterable[str] = (),
) -> None:
    """Raise unless a folder is new, empty (but for a lock's files) or of the kind to be written.

    Args:
        folder: may be missing.
        kind: what may be there, for the error; empty if nothing.
        ours: whether a folder that holds anything is of that kind.
        allowed: patterns of names that may be there in any case.

    Raises:
        FileExistsError: if something else would be lost, or mixed with what is written.
    """
    got = "a file" if folder.exists() else ""
    if folder.is_dir():
        known = {*lock_names(), *allowed}
        others = [one.name for one in folder.iterdir() if not any(map(one.match, known))]
        got = f"a folder that holds {min(others)!r}" if others and not ours(folder) else ""
    if got:
        wanted = f"new, empty or {kind}" if kind else "new or empty"
        raise FileExistsError(
            f"{folder}: must be {wanted}, got {got}. It would be lost, or mixed with "
            "others: choose another folder."
        )


@contextmanager
def new_folder(target: Path, *, then: str = AGAIN) -> Iterator[Path]:
    """A folder to fill, which takes the place of `target` when the block ends without an error.

    Args:
        target: one process at a time may write it.
        then: what to do once there is room, if the disk was full.

    Raises:
        OSError: naming `target`, if it cannot be written; what was there is left as it was.
    """
    work, old = _beside(target)
    with writing(target, work, then=then):
        target.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(target)
        try:
            work.mkdir()
            yield work
            usual = _mode(work) & 0o666
            for path in (*work.rglob("*"), work):
                if path.is_file():
                    _open_to_others(path, usual)
                _to_disk(path)
            if target.exists():
                os.replace(target, old)
            os.replace(work, target)
            _to_disk(target.parent)
        finally:
            clear_leftovers(target)


def _beside(target: Path) -> tuple[Path, Path]:
    """Where a folder is while it is written, and while it is replaced."""
    return target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old")


def clear_leftovers(target: Path) -> None:
    """Take away what a writer left that failed, or was killed, while it replaced a folder.

    For who has the folder's lock; who reads it, calls `recover`.
    """
    work, old = _beside(target)
    if old.exists() and not target.exists():
        os.replace(old, target)
    for left in (work, old):
        shutil.rmtree(left, ignore_errors=True)


def recover(folder: Path) -> None:
    """Bring back a folder that `new_folder` was replacing when its process was killed.

    Between its two renames the folder is there under another name only. Whoever reads a folder
    that may be replaced calls this first.

    Raises:
        OSError: if it must be brought back but cannot be.
    """
    folder = folder.resolve()  # "." has no name
    _, old = _beside(folder)
    for _ in range(_TRIES):
        if folder.exists() or not old.exists():
            return
        time.sleep(_PAUSE_S)  # a writer that lives is between the two for less than that
    with suppress(FileNotFoundError):  # another reader was faster
        os.replace(old, folder)


@contextmanager
def new_file(target: Path, *, then: str = AGAIN) -> Iterator[Path]:
    """A path to write, which takes the place of `target` when the block ends without an error.

    Args:
        target: one process at a time may write it.
        then: what to do once there is room, if the disk was full.

    Raises:
        OSError: naming `target`, if it cannot be written; what was there is left as it was.
    """
    work = target.with_name(f".{target.name}.partial")
    with writing(target, work, then=then):
        try:
            work.unlink(missing_ok=True)
            work.touch()
            usual = _mode(work)
            yield work
            _open_to_others(work, usual)
            _to_disk(work)
            os.replace(work, target)
            _to_disk(target.parent)
        finally:
            work.unlink(missing_ok=True)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _open_to_others(path: Path, mode: int) -> None:
    """Let those read a file who may read any other: safetensors lets its owner alone."""
    if _mode(path) != mode:
        path.chmod(mode)


@contextmanager
def writing(target: Path, work: Path, *, then: str = AGAIN) -> Iterator[None]:
    """A block that writes `work` for `target`: its errors name `target` and say what to do.

    Raises:
        OSError: in place of one about `work`, and of safetensors' own, which is none.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = _errno(error)
        about = [getattr(error, name, None) for name in ("filename", "filename2")]
        named = [Path(os.fsdecode(one)) for one in about if isinstance(one, str | bytes)]
        if number is None or (named and not any(_within(path, work) for path in named)):
            raise
        said = os.strerror(number)
        if number in _ROOM:
            said += f"; what was there before is unchanged. {_ROOM[number]}, then {then}"
        raise OSError(number, said, str(target)) from error


def _errno(error: OSError | SafetensorError) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    number = re.search(r"(?:os error|code:) (\d+)", str(error))  # in newer, in older releases
    return int(number[1]) if number else None


def _within(path: Path, work: Path) -> bool:
    return work.absolute() in (path.absolute(), *path.absolute().parents)


def _to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    if path.is_dir() and os.name != "posix":
        return  # only there can a folder be opened
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
