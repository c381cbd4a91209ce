"""The digests of a folder's files, written beside them and compared before they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from netllm_adapt.files.reading import read_json
from netllm_adapt.files.writing import new_file

FILE = "digests.json"


class _Digest(msgspec.Struct):
    """What a file was when it was written."""

    sha256: str
    bytes: int


class _Digests(msgspec.Struct, forbid_unknown_fields=True):
    """The digests of a folder's files by name."""

    files: dict[str, _Digest]
    version: int = 1


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_digests(folder: Path, *, but: str | None = None) -> None:
    """Write `digests.json` of all files of a complete folder, but of one that people may change."""
    files = {
        path.relative_to(folder).as_posix(): _Digest(sha256(path), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (FILE, but) and not path.name.startswith(".")
    }
    content = msgspec.json.format(msgspec.json.encode(_Digests(files)), indent=2)
    with new_file(folder / FILE) as work:
        work.write_bytes(content + b"\n")


def check_digests(folder: Path, *, again: str, sizes_alone: bool = False) -> None:
    """Raise unless the files of a folder have the digests, if there are any.

    Args:
        folder: with its files.
        again: what to do about a damaged one.
        sizes_alone: compare how long the files are, which takes no time.

    Raises:
        ValueError: naming the first file that is missing or has another content.
    """
    for path, known in _listed(folder, again):
        _check_size(path, known, again)
        if not sizes_alone and (digest := sha256(path)) != known.sha256:
            raise ValueError(
                f"{path}: must have the sha256 {known.sha256}, as {FILE} beside it says, got "
                f"{digest}: it was damaged or changed since. {again}"
            )


def _listed(folder: Path, again: str) -> Iterator[tuple[Path, _Digest]]:
    listed = folder / FILE
    known = read_json(listed, _Digests).files if listed.is_file() else {}
    for name, digest in known.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{listed}: must name files of its folder, got {name!r}. {again}")
        yield folder / name, digest


def _check_size(path: Path, known: _Digest, again: str) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: must be there, as {FILE} beside it says. {again}")
    if (size := path.stat().st_size) != known.bytes:
        raise ValueError(
            f"{path}: must have {known.bytes:,} bytes, as {FILE} beside it says, got {size:,}. "
            f"{again}"
        )
