"""The digests of a folder's files, written beside them and compared before they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec

from netllm_adapt.files.reading import read_json
from netllm_adapt.files.writing import new_file

FILE = "digests.json"


class Digest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a file was when it was written."""

    sha256: str
    bytes: int
    modified_ns: int | None = None
    """When it was last written; None where a copy of the folder is as good."""


class Digests(msgspec.Struct, forbid_unknown_fields=True):
    """The digests of a folder's files by name."""

    files: dict[str, Digest]
    version: int = 1


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_digests(folder: Path, *, but: Iterable[str] = (), stamped: bool = False) -> None:
    """Write `digests.json` of all files of a folder, but of some names.

    Args:
        folder: complete.
        but: names of files that a person may change.
        stamped: keep when each was last written too, for `check_digests(quick=True)`.
    """
    files = {
        path.relative_to(folder).as_posix(): Digest(
            sha256(path), path.stat().st_size, path.stat().st_mtime_ns if stamped else None
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in {FILE, *but} and not path.name.startswith(".")
    }
    content = msgspec.json.format(msgspec.json.encode(Digests(files)), indent=2)
    with new_file(folder / FILE) as work:
        work.write_bytes(content + b"\n")


def check_digests(folder: Path, *, again: str, quick: bool = False) -> bool:
    """Whether the folder has digests, which its files then have.

    Args:
        folder: with its files.
        again: what to do about a damaged one.
        quick: take a file of the right size, unchanged since it was digested, for what it was.

    Raises:
        ValueError: naming the first file that is missing or has another content.
    """
    listed = folder / FILE
    if not listed.is_file():
        return False
    for name, known in read_json(listed, Digests).files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{listed}: must name files of its folder, got {name!r}. {again}")
        _check(folder / name, known, again, quick)
    return True


def written_since(folder: Path) -> bool:
    """Whether a file was written, or copied, since its digest was: its time is another."""
    files = read_json(folder / FILE, Digests).files
    return any((folder / name).stat().st_mtime_ns != one.modified_ns for name, one in files.items())


def _check(path: Path, known: Digest, again: str, quick: bool) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: must be there, as {FILE} beside it says. {again}")
    about = path.stat()
    if about.st_size != known.bytes:
        raise ValueError(
            f"{path}: must have {known.bytes:,} bytes, as {FILE} beside it says, got "
            f"{about.st_size:,}. {again}"
        )
    if quick and about.st_mtime_ns == known.modified_ns:
        return
    if (digest := sha256(path)) != known.sha256:
        raise ValueError(
            f"{path}: must have the sha256 {known.sha256}, as {FILE} beside it says, got {digest}: "
            f"it was damaged or changed since. {again}"
        )
