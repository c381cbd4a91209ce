"""One writer per folder or file, and who comes second is told who that is."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from netllm_adapt.files.reading import read_json


class _Writer(msgspec.Struct):
    """Who writes a folder or a file."""

    host: str
    process: int
    since: str


def lock_names(name: str = "") -> frozenset[str]:
    """What a lock may leave in the folder, or beside the file `name`, that it is for."""
    return frozenset(_names(name))


def _names(name: str) -> tuple[str, str]:
    prefix = f".{name}" if name else ""
    return f"{prefix}.lock", f"{prefix}.writer.json"


@contextmanager
def locked(target: Path, *, file: bool = False) -> Iterator[None]:
    """A block in which nobody else writes `target`.

    The operating system ends the lock with its process, however that ends. A thread that has it
    gets it again. Who reads needs none. For the block two files whose names begin with a dot lie in
    the folder, or beside the file: what the system locks, and who the writer is.

    Args:
        target: a folder, which is made for the block if it is missing; it stays if it was filled.
        file: whether it is a file instead.

    Raises:
        BlockingIOError: if somebody else is writing it, with host, process and since when.
        OSError: if the lock cannot be made.
    """
    target = target.absolute()
    folder = target.parent if file else target
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path, sign = (folder.resolve() / name for name in _names(target.name if file else ""))
    lock = FileLock(path, timeout=0, is_singleton=True)
    if lock.is_locked:  # by this thread
        yield
        return
    try:
        with lock:
            try:
                sign.write_bytes(msgspec.json.encode(_this_process()))
                yield
            finally:
                sign.unlink(missing_ok=True)
                with suppress(OSError):  # who opened it meanwhile sees that it is gone
                    path.unlink()
    except Timeout as error:
        raise BlockingIOError(
            f"{target}: must have one writer at a time, but {_named(sign)} is writing it. Wait "
            "until that has ended, or choose another place."
        ) from error
    finally:
        for one in new:
            with suppress(OSError):  # what was filled stays
                one.rmdir()


def writer_of(folder: Path) -> str | None:
    """Who writes a folder now, with host, process and since when; None if nobody does."""
    path, sign = (folder / name for name in _names(""))
    if not sign.is_file():
        return None
    lock = FileLock(path, timeout=0, is_singleton=True)
    if lock.is_locked:  # by this thread
        return _named(sign)
    try:
        with lock:
            return None  # who signed has ended without a word
    except Timeout:
        return _named(sign)


def _this_process() -> _Writer:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return _Writer(socket.gethostname(), os.getpid(), since)


def _named(sign: Path) -> str:
    """Who says to be the writer."""
    try:
        one = read_json(sign, _Writer)
    except (OSError, ValueError):  # gone since, or damaged
        return "another process"
    return f"process {one.process} on {one.host} since {one.since}"
