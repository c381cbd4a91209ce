"""Zip archives of a user, read member by member in bounded memory; nothing is ever unpacked."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from netllm_sims.files import reading

MOST_MEMBERS = 100_000
"""Members of one archive."""
MOST_RATIO = 100
"""Bytes of a member, or of all, per packed byte; text packs to a tenth or twentieth."""

_FREE_BYTES = 10_000_000
"""Up to this size nobody asks how well something is packed."""
_ENTRY_BYTES = 500
"""Most that an entry of the directory takes in the mean."""
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"


class Archive:
    """The members of an open zip archive; `opened` makes it."""

    def __init__(self, path: Path, members: zipfile.ZipFile, most: int) -> None:
        self._path = path
        self._members = members
        self._most = most
        _check(path, members.infolist(), most)
        self.names = tuple(sorted(one.filename for one in members.infolist() if not one.is_dir()))
        """Paths of the files within the archive, sorted, with `/` between folders."""

    def path(self, name: str) -> Path:
        """The member, for messages: named like a file in a folder."""
        return self._path / name

    @contextmanager
    def stream(self, name: str) -> Iterator[BinaryIO]:
        """Stream of a member's bytes.

        Raises:
            ValueError: The member is damaged; reading raises it as well.
        """
        try:
            member = self._members.open(name)
        except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, zlib.error) as fault:
            raise ValueError(
                f"{self.path(name)}: the zip archive is damaged here: {fault}. Fetch it again."
            ) from None
        with member:
            yield reading.bounded(member, self.path(name), self._most)  # type: ignore[arg-type]

    def read(self, name: str, *, most_mb: int = reading.MOST_WHOLE_MB) -> bytes:
        """Content of a member.

        Raises:
            ValueError: The member is damaged, or larger than `most_mb` or the limit that the
                environment names.
        """
        most = reading.most_bytes(most_mb)
        size = self._members.getinfo(name).file_size
        if size > most:
            raise reading.too_large(self.path(name), most, f"{size / 1e6:,.0f} MB")
        with self.stream(name) as stream:
            return stream.read()


@contextmanager
def opened(path: str | Path, *, most_mb: int = reading.MOST_MB) -> Iterator[Archive]:
    """The archive of a file.

    Args:
        path: The zip.
        most_mb: Megabytes of all its members together, unpacked, unless the environment variable
            `reading.LIMIT` says otherwise.

    Raises:
        ValueError: No zip or a damaged one, too many members, members that are encrypted, packed
            otherwise than by deflate or suspiciously well, or named twice or like a path outside
            the archive, or more bytes than the limit.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    with reading.regular(path) as file:
        try:
            _check_directory(path, file)
            members = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as fault:
            raise ValueError(
                f"{path}: must be a whole zip archive, got another or damaged file: {fault}. Fetch "
                "it again."
            ) from None
        with members:
            yield Archive(path, members, reading.most_bytes(most_mb))


def _check(path: Path, members: list[zipfile.ZipInfo], most: int) -> None:
    """Raise unless the directory promises a harmless archive."""
    if len(members) > MOST_MEMBERS:
        raise _many(path, f"{len(members):,}")
    seen: set[str] = set()
    for member in members:
        fault = _fault(member)
        if fault is None and member.filename in seen:
            fault = "must be there once, got it twice"
        if fault is not None:
            raise ValueError(
                f"{path / member.filename.lstrip('/')}: a member of a zip archive {fault}. Unpack "
                "the archive by hand if you trust it, and give the folder."
            )
        seen.add(member.filename)
    size = sum(member.file_size for member in members)
    if size > most:
        raise reading.too_large(path, most, f"{size / 1e6:,.0f} MB in {len(members):,} members")
    packed = sum(member.compress_size for member in members)
    if size > _FREE_BYTES and size > MOST_RATIO * packed:
        raise ValueError(_dense(path, size, packed))
    for member in members:
        if member.file_size > _FREE_BYTES and member.file_size > MOST_RATIO * member.compress_size:
            raise ValueError(_dense(path / member.filename, member.file_size, member.compress_size))


def _fault(member: zipfile.ZipInfo) -> str | None:
    name = PurePosixPath(member.filename)
    if (
        name.is_absolute()
        or ".." in name.parts
        or not name.parts
        or re.match(r"[A-Za-z]:|.*\\", member.filename)
    ):
        return f"must have a relative name without `..`, got {member.filename!r:.80}"
    if member.flag_bits & 0x1:
        return "must not be encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"must be stored or packed by deflate, got method {member.compress_type}"
    return None


def _dense(where: Path, size: int, packed: int) -> str:
    return (
        f"{where}: must unpack to at most {MOST_RATIO} times its size, got {size / 1e6:,.0f} MB "
        f"from {packed / 1e6:,.1f} MB, as archives made to do harm do. Unpack it by hand if you "
        "trust it, and give the folder."
    )


def _many(path: Path, got: str) -> ValueError:
    return ValueError(
        f"{path}: a zip archive must have at most {MOST_MEMBERS:,} members, got {got}. Unpack it, "
        "and give the folder."
    )


def _check_directory(path: Path, file: BinaryIO) -> None:
    """Raise unless the directory, of which `zipfile` makes objects, is of a reasonable size.

    Source: APPNOTE.TXT of PKWARE, sections 4.3.14 to 4.3.16.
    """
    size = file.seek(0, 2)
    file.seek(max(size - 65_557 - 20, 0))  # the end with the longest comment, and the locator
    tail = file.read()
    at = tail.rfind(_END)
    if at >= 0:
        directory = int.from_bytes(tail[at + 12 : at + 16], "little")
        locator = tail[at - 20 : at] if at >= 20 else b""
        if locator.startswith(_LOCATOR64):
            file.seek(min(int.from_bytes(locator[8:16], "little"), size))
            record = file.read(56)
            if record.startswith(_END64):
                directory = int.from_bytes(record[40:48], "little")
        if directory > MOST_MEMBERS * _ENTRY_BYTES:
            raise _many(path, f"a directory of {directory / 1e6:,.0f} MB")
    file.seek(0)
