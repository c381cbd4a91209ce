"""Files of a user, read in bounded memory: what is too large, too deep or no file is refused.

Every reader of the package opens files here, so that all of them name the file (and the line), stop
at the same limit, and say how to raise it.
"""

import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

LIMIT = "NETLLM_READ_LIMIT"
"""Environment variable with the most that is read of one file, unpacked: `500`, `500MB`, `8GB`."""
MOST_MB = 2_000
"""Megabytes of one file that are read piece by piece, unless `LIMIT` says otherwise."""
MOST_WHOLE_MB = 250
"""Megabytes of one file that is held as a whole, such as JSON, unless `LIMIT` says otherwise."""
MOST_LINE_MB = 64
"""Megabytes of one line."""

_MB = 1_000_000
_UNITS = {"MB": _MB, "GB": 1_000 * _MB}
_BLOCK_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 18
_XZ_BYTES = 256 << 20
_MARK = b"\xef\xbb\xbf"
_OTHERS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
}


class Block(NamedTuple):
    """Whole lines of a file, each ended by a line feed but perhaps the last of the file."""

    line: int
    """Number of the first line, from 1."""
    content: bytes


def most_bytes(usual_mb: int = MOST_MB) -> int:
    """Bytes of one file that may be read: those of the environment variable, else `usual_mb`.

    Raises:
        ValueError: The variable holds something else than a size.
    """
    text = os.environ.get(LIMIT, "").strip()
    if not text:
        return usual_mb * _MB
    unit = next((unit for unit in _UNITS if text.upper().endswith(unit)), "")
    try:
        size = float(text[: len(text) - len(unit)]) * _UNITS[unit or "MB"]
    except ValueError:
        size = 0.0
    if not 1 <= size < 2**63:
        raise ValueError(
            f"{LIMIT} must be a size > 0 in megabytes, or with a unit (500, 500MB, 8GB), got "
            f"{text!r:.60}."
        )
    return int(size)


def too_large(where: object, most: int, got: str) -> ValueError:
    """Error of what is larger than `most` bytes, with the way to raise the limit."""
    return ValueError(
        f"{where}: at most {most / _MB:,.0f} MB of one file are read, unpacked, got {got}. If the "
        f"file is meant to be that large, set the environment variable {LIMIT} to more, such as "
        f"{LIMIT}={max(2 * most // _MB, 1)}MB."
    )


@contextmanager
def opened(path: str | Path, *, most_mb: int = MOST_MB) -> Iterator[BinaryIO]:
    """Stream of a file's bytes; those of gzip, bzip2 and xz, known by their content, are unpacked.

    Args:
        path: A regular file: pipes, sockets and devices are refused before they are opened.
        most_mb: Megabytes that may be read of it, unpacked, unless `LIMIT` says otherwise.

    Raises:
        ValueError: No regular file, another packing, or a damaged one. Reading raises it as well
            when the packing breaks off or the limit is passed.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    most = most_bytes(most_mb)
    with regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise too_large(path, most, f"{size / _MB:,.0f} MB")
        with _unpacked(path, file) as source:
            yield bounded(source, path, most)


def bounded(source: BinaryIO, where: object, most: int) -> BinaryIO:
    """Stream of the same bytes, which raises ValueError where they pass `most` or are damaged.

    Args:
        source: The stream, perhaps one that unpacks.
        where: Its name, for errors.
        most: Bytes that may be read.
    """
    return io.BufferedReader(_Bounded(source, where, most), _BUFFER_BYTES)


def read_bytes(path: str | Path, *, most_mb: int = MOST_WHOLE_MB) -> bytes:
    """Content of a file, unpacked, without a mark of byte order; raises as `opened` does."""
    with opened(path, most_mb=most_mb) as stream:
        return stream.read().removeprefix(_MARK)


def read_text(path: str | Path, *, most_mb: int = MOST_WHOLE_MB) -> str:
    """Text of a file in UTF-8.

    Raises:
        ValueError: As `opened` does, or other bytes than UTF-8, with their line.
    """
    return text(read_bytes(path, most_mb=most_mb), path)


def text(content: bytes, where: object, *, line: int = 1) -> str:
    """The content as text.

    Args:
        content: Bytes of UTF-8.
        where: The file, for errors.
        line: Number of the content's first line.

    Raises:
        ValueError: Other bytes, with file and line.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as fault:
        line += content.count(b"\n", 0, fault.start)
        raise ValueError(
            f"{where}:{line}: must be a text file in UTF-8, got the byte "
            f"0x{content[fault.start]:02x}. Unpack it, or save it as UTF-8."
        ) from None


def lines(stream: BinaryIO, where: object) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line, its end included.

    Raises:
        ValueError: A line is longer than `MOST_LINE_MB`.
    """
    most = MOST_LINE_MB * _MB
    number = 0
    while content := stream.readline(most + 1):
        number += 1
        if len(content) > most:
            raise _long(where, number)
        yield number, content.removeprefix(_MARK) if number == 1 else content


def blocks(stream: BinaryIO, where: object, *, size: int = _BLOCK_BYTES) -> Iterator[Block]:
    """The file in blocks of whole lines; ends of lines are line feeds, a byte-order mark is gone.

    Args:
        stream: The file.
        where: Its name, for errors.
        size: About the bytes of a block.

    Raises:
        ValueError: A line is longer than `MOST_LINE_MB`.
    """
    number, parts, start = 1, [b""], True
    while piece := stream.read(size):
        end = piece.rfind(b"\n") + 1
        if not end:
            parts.append(piece)
            if sum(map(len, parts)) > MOST_LINE_MB * _MB:
                raise _long(where, number)
            continue
        content = _plain(b"".join([*parts, piece[:end]]), start)
        yield Block(number, content)
        number += content.count(b"\n")
        parts, start = [piece[end:]], False
    if content := _plain(b"".join(parts), start):
        yield Block(number, content)


def _plain(content: bytes, start: bool) -> bytes:
    content = content.removeprefix(_MARK) if start else content
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return content


def _long(where: object, number: int) -> ValueError:
    return ValueError(
        f"{where}:{number}: a line must have at most {MOST_LINE_MB} MB, got more. Is this a text "
        "file?"
    )


@contextmanager
def regular(path: Path) -> Iterator[BinaryIO]:
    """The open file of packed or plain bytes, without a limit.

    Raises:
        ValueError: It is a pipe, a socket, a device or a folder.
        FileNotFoundError: There is no such file.
    """
    try:
        mode = path.stat().st_mode  # before it is opened: opening a pipe waits for ever
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file. Correct the path.") from None
    if stat.S_ISREG(mode):
        # a pipe that took the file's place since is opened without waiting, and refused
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(path, flags)
        with os.fdopen(handle, "rb") as file:
            mode = os.fstat(handle).st_mode
            if stat.S_ISREG(mode):
                yield file
                return
    raise ValueError(f"{path}: must be a regular file, got {_kind(mode)}. Name a file of data.")


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


@contextmanager
def _unpacked(path: Path, file: BinaryIO) -> Iterator[BinaryIO]:
    start = file.read(4096)
    file.seek(0)
    for magic, packing in _OTHERS.items():
        if start.startswith(magic):
            raise ValueError(
                f"{path}:1: must be a text file, plain or packed by gzip, bzip2 or xz, got one "
                f"packed by {packing}. Unpack it."
            )
    if start.startswith(b"\x1f\x8b"):
        import gzip

        with gzip.open(file) as source:
            yield cast(BinaryIO, source)
    elif start.startswith(b"BZh"):
        import bz2

        with bz2.open(file) as source:
            yield cast(BinaryIO, source)
    elif start.startswith(b"\xfd7zXZ\x00"):
        import lzma

        try:
            lzma.LZMADecompressor(memlimit=_XZ_BYTES).decompress(start, max_length=1)
        except lzma.LZMAError as fault:
            raise ValueError(f"{path}:1: the packing cannot be read: {fault}.") from None
        with lzma.open(file) as source:
            yield cast(BinaryIO, source)
    else:
        yield file


def _damages() -> tuple[type[Exception], ...]:
    import lzma
    import zipfile

    return (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


class _Bounded(io.RawIOBase):
    """Bytes of a stream up to a limit; an error of damage names it."""

    def __init__(self, source: BinaryIO, where: object, most: int) -> None:
        self._source = source
        self._where = where
        self._most = most
        self._done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            piece = self._source.read(len(buffer))
        except _damages() as fault:
            raise ValueError(
                f"{self._where}: the packing breaks after {self._done:,} unpacked bytes: {fault}. "
                "Fetch the file again."
            ) from None
        self._done += len(piece)
        if self._done > self._most:
            raise too_large(self._where, self._most, "more")
        buffer[: len(piece)] = piece
        return len(piece)
