"""A person's own data: which of it trains, which validates and which tests."""

from collections.abc import Iterable, Sequence
from pathlib import Path

PARTS = ("train", "valid", "test")
_BESIDE = ("readme", "license", "licence", "copying")
_LEAST = 3


class NoneOfPart(ValueError):
    """There is no data of a part."""


Stamp = tuple[tuple[Path, int, int], ...]
"""Files with the times of their last change, in ns, and their sizes in bytes."""


def divided(ordered: Sequence[str]) -> dict[str, list[str]]:
    """The parts of what comes in some order: the first fifth tests, the next validates.

    Each of them is at least one; fewer than three cannot be divided and are all `test`.
    """
    if len(ordered) < _LEAST:
        return {"train": [], "valid": [], "test": list(ordered)}
    fifth = max(1, len(ordered) // 5)
    return {
        "test": list(ordered[:fifth]),
        "valid": list(ordered[fifth : 2 * fifth]),
        "train": list(ordered[2 * fifth :]),
    }


def by_content(digests: Iterable[str]) -> dict[str, frozenset[str]]:
    """The digests of each part, in the order of the digests themselves.

    So neither names nor the order of files matter, and equal content is in one part only.
    """
    return {part: frozenset(some) for part, some in divided(sorted(set(digests))).items()}


def subfolder(folder: Path, part: str) -> Path | None:
    """The folder of a part within a person's folder; None if that has no folders of parts.

    Raises:
        NoneOfPart: There are folders of other parts.
        ValueError: There are files beside the folders of parts, which would be in no part.
    """
    there = parts_of(folder)
    if not there:
        return None
    beside = [name for name in files_of(folder) if not name.lower().startswith(_BESIDE)]
    if beside:
        raise ValueError(
            f"{folder}: all files must lie in {' or '.join(there)}, or there must be no such "
            f"folders, got both: {min(beside)} lies beside {there[0]}. Move the files into one of "
            "the folders, or all into one folder without parts, which is then divided."
        )
    if part not in there:
        raise NoneOfPart(
            f"{folder / part}: there is no such part, but {folder} has {' and '.join(there)}. "
            "Create it, or use a flat folder, which is divided into parts by content."
        )
    return folder / part


def parts_of(folder: Path) -> list[str]:
    """The parts that a folder has subfolders of."""
    return [part for part in PARTS if (folder / part).is_dir()]


def files_of(folder: Path) -> list[str]:
    """Names of the files right in a folder, sorted, without hidden ones."""
    return sorted(p.name for p in folder.iterdir() if p.is_file() and p.name[0] != ".")


def sentence(name: str, what: str, parts: dict[str, frozenset[str]]) -> str:
    """How own data were divided by content, for a person who did not ask for it.

    Args:
        name: Of the folder or file.
        what: Of what it has several, such as `traces`.
        parts: Digests by part.
    """
    count = sum(map(len, parts.values()))
    if not parts["train"]:
        return (
            f"{name} has {count} different {what}, too few to divide: all of them test, and none "
            "is left to train on."
        )
    return (
        f"{name} has no folders train, valid and test, so its {count} different {what} were "
        f"divided by content: {len(parts['train'])} train, {len(parts['valid'])} validate, "
        f"{len(parts['test'])} test. With split=false every part has all of them."
    )


def too_few(name: object, what: str, count: int, part: str) -> NoneOfPart:
    """The error for a part that own data are too few for."""
    return NoneOfPart(
        f"{name}: to train and to validate there must be at least {_LEAST} {what} of different "
        f"content, got {count}, which all test: none is in the {part} part. Add some, make folders "
        "train, valid and test, or set split=false, with which every part has all of them."
    )


def stamp(path: Path) -> Stamp:
    """What tells whether a file, or what lies in a folder, has changed; hidden files are left out.

    Raises:
        FileNotFoundError: There is no such file or folder.
    """
    if not path.is_dir():
        return (_stamp(path),)
    return tuple(
        _stamp(file)
        for file in sorted(path.rglob("*"))
        if not any(part.startswith(".") for part in file.relative_to(path).parts) and file.is_file()
    )


def _stamp(file: Path) -> tuple[Path, int, int]:
    about = file.stat()
    return file, about.st_mtime_ns, about.st_size
