"""One writer per folder or file, and what others are told of it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

_BEAT_S = 20.0
_GONE_S = 180.0
"""A writer on another host that gave no sign of life for so long is gone."""
_held: set[tuple[Path, int]] = set()
_HERE = socket.gethostname()


class Writer(msgspec.Struct, frozen=True):
    """Who writes a folder or a file."""

    host: str
    process: int
    since: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} since {self.since}"


def lock_names(name: str = "") -> frozenset[str]:
    """What a lock may leave in the folder, or beside the file `name`, that it is for."""
    return frozenset(_names(name))


def _names(name: str) -> tuple[str, str]:
    prefix = f".{name}" if name else ""
    return f"{prefix}.lock", f"{prefix}.writer.json"


@contextmanager
def locked(target: Path, *, file: bool = False) -> Iterator[None]:
    """A block in which nobody else writes `target`.

    The lock ends with its process, however that ends. A thread that has it gets it again. Who
    reads needs none.

    Two files whose names begin with a dot lie in the folder, or beside the file, for the block:
    what the system locks, and who the writer is. Where a file system keeps locks of other hosts
    from each other, the writer's signs of life (the second file's time, by the file system's own
    clock) take its place.

    Args:
        target: a folder, which is made for the block if it is missing; it stays if it was filled.
        file: whether it is a file instead.

    Raises:
        BlockingIOError: if somebody else is writing it, with host, process and since when.
        OSError: if the lock cannot be made.
    """
    target = target.absolute()
    key = (target.resolve(), threading.get_ident())
    if key in _held:
        yield
        return
    folder = target.parent if file else target
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path, sign = (folder / name for name in _names(target.name if file else ""))
    try:
        with _alone(target, path, sign):
            _held.add(key)
            try:
                yield
            finally:
                _held.discard(key)
    finally:
        for one in new:
            with suppress(OSError):  # what was filled stays
                one.rmdir()


@contextmanager
def _alone(target: Path, path: Path, sign: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise _refusal(target, _read(sign)) from error
    try:
        _check_elsewhere(target, path, sign)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            sign.write_bytes(msgspec.json.encode(Writer(_HERE, os.getpid(), since)))
            with _beating(sign):
                yield
        finally:
            sign.unlink(missing_ok=True)
            with suppress(OSError):  # who opened it meanwhile sees that it is gone
                path.unlink()
    finally:
        lock.release()


def _read(sign: Path) -> Writer | None:
    """Who says to be the writer; None if nobody does, or nothing that can be read."""
    try:
        return msgspec.json.decode(sign.read_bytes(), type=Writer)
    except (OSError, msgspec.DecodeError, RecursionError):
        return None


def _check_elsewhere(target: Path, path: Path, sign: Path) -> None:
    """Raise if a writer on another host, whose lock may not be seen here, gives signs of life.

    One of this host is gone, whatever its file says: the system had the lock to give.
    """
    other = _read(sign)
    if other is None or other.host == _HERE:
        return
    os.utime(path)
    with suppress(FileNotFoundError):  # it has just ended
        if path.stat().st_mtime - sign.stat().st_mtime < _GONE_S:
            raise _refusal(target, other)


def _refusal(target: Path, writer: Writer | None) -> BlockingIOError:
    who = str(writer) if writer else "another process"
    message = (
        f"{target}: must have one writer at a time, but {who} is writing it. Wait until that has "
        "ended, or choose another place."
    )
    if writer and writer.host != _HERE:
        message += f" If it was killed, try again {_GONE_S / 60:.0f} minutes after its end."
    return BlockingIOError(message)


@contextmanager
def _beating(sign: Path) -> Iterator[None]:
    """A block whose process gives signs of life."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_BEAT_S):
            with suppress(OSError):  # the next one will do
                os.utime(sign)

    thread = threading.Thread(target=beat, name=f"sign of life {sign}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
