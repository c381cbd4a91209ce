"""What data a setting is made of: each source with its name and a digest of its content."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from netllm_sims.own_data import Stamp, stamp

Origin = Literal["own", "published", "generated"]
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of data; two are the same if their digests are.

    The digest of a file is its SHA-256. That of several is the SHA-256 of what
    `sha256sum` prints of them: a line `digest  name` each, in the order of their names.
    """

    kind: str
    """What it is: `traces`, `video`, `jobs`, `head movement`, `frames`."""
    name: str
    """What people call it: the name of its folder or file."""
    origin: Origin
    """`own`, `published` or `generated`."""
    files: int = 0
    """How many files; none of what is generated."""
    size_bytes: int = 0
    """Of all files."""
    sha256: str | None = None
    """Digest of names and content; None for what is generated."""

    def __str__(self) -> str:
        """The name, with how many files and the first digits of the digest."""
        if self.sha256 is None:
            return self.name
        count = f"{self.files:,} file{'s' if self.files != 1 else ''}, " if self.files else ""
        return f"{self.name} ({count}sha256 {self.sha256[:_SHOWN]}…)"

    def document(self) -> dict[str, Any]:
        """The source as JSON can hold it."""
        return asdict(self)


def of_files(
    kind: str,
    path: Path,
    *,
    origin: Origin,
    name: str | None = None,
    only: Sequence[str] = (),
) -> Source:
    """The source that a file or folder is; what was digested once is not read again.

    Args:
        kind: What it is.
        path: The file or folder, of which hidden files are left out.
        origin: Whose it is.
        name: What people call it; by default as the file or folder is called.
        only: Files and subfolders that belong to it; all if empty.

    Raises:
        OSError: A file cannot be read.
    """
    stamps = [stamp(path / part) for part in only] if only else [stamp(path)]
    every = tuple(sorted(one for some in stamps for one in some))
    return Source(
        kind=kind,
        name=name or path.resolve().name,
        origin=origin,
        files=len(every),
        size_bytes=sum(size for _, _, size in every),
        sha256=_digest(path, every),
    )


def generated(kind: str) -> Source:
    """The source of data that a seeded generator makes."""
    return Source(kind=kind, name=f"generated {kind}", origin="generated")


@lru_cache(maxsize=64)
def _digest(root: Path, files: Stamp) -> str:
    if files and files[0][0] == root:
        return _sha256(root)
    lines = sorted((file.relative_to(root).as_posix(), file) for file, _, _ in files)
    text = "".join(f"{_sha256(file)}  {name}\n" for name, file in lines)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def contents(episodes: Iterable[Any]) -> frozenset[str]:
    """Digests of all that some episodes, which may say their `contents`, are made of."""
    return frozenset().union(*(getattr(episode, "contents", ()) for episode in episodes))
