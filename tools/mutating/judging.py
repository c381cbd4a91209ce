"""What may become of a mutated file, and what is a fault."""

from __future__ import annotations

import os
import random
import shutil
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from math import isclose, isnan
from pathlib import Path
from typing import Any, NamedTuple

from mutating.packed import mutated

LONGEST = 2_000
"""Characters that a message may have."""
_REPLACED = 0.06
"""Share of mutations that replace the file as a whole."""


class Wrong(Exception):
    """What a file says must be refused, whatever a loader makes of it."""


class Untold(Exception):
    """What a file says is plain, but not how its result must look; any result is taken."""


@dataclass(frozen=True)
class Subject:
    """A loader and its valid input."""

    kinds: Mapping[str, str]
    """Which files are mutated, by a pattern of their path, and what they are."""
    make: Callable[[Path], Path]
    """Writes the valid input below a folder; gives what the loader is asked for."""
    load: Callable[[Path], Any]
    """What was loaded, as lists, dictionaries, numbers and texts."""
    rule: str
    """When another result is what the mutation means."""
    says: Callable[[Path], Any] | None = None
    """What the file says, read in another way than the loader's; raises where it cannot tell."""
    shape: Callable[[Any], Any] | None = None
    """In place of `says`: what of a result must not change."""
    related: bool = False
    """Whether files are checked against one another, so that any of them may be named."""
    special: tuple[str, ...] = field(default=("removed", "a folder", "a FIFO", "a loop", "endless"))
    """How a file is replaced as a whole."""


class Outcome(NamedTuple):
    """What became of one mutation."""

    number: int
    verdict: str
    """`same`, `other`, `refused` or `fault`."""
    what: str
    """The mutation."""
    why: str = ""
    """The fault, or the message of what was refused."""


def case(subject: Subject, template: Path, folder: Path, seed: int, number: int) -> tuple[str, str]:
    """Make the mutated copy of `template`; what was done, and to which file."""
    shutil.copytree(template, folder)
    rng = random.Random(f"{seed} {number}")
    files = [
        (path, kind)
        for path in sorted(folder.rglob("*"))
        for pattern, kind in subject.kinds.items()
        if path.is_file() and fnmatch(path.relative_to(folder).as_posix(), pattern)
    ]
    path, kind = rng.choice(files)
    if rng.random() < _REPLACED:
        what = rng.choice(subject.special)
        _replace(path, what)
        return f"the file is {what}", path.name
    what, content = mutated(path.read_bytes(), kind, rng)
    path.write_bytes(content)
    return what, path.name


def _replace(path: Path, what: str) -> None:
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what == "a FIFO":
        os.mkfifo(path)
    elif what == "a loop":
        path.symlink_to(path.name)
    elif what == "endless":
        path.symlink_to("/dev/zero")


def judged(subject: Subject, root: Path, folder: Path, name: str, original: Any) -> tuple[str, str]:
    """The verdict on a mutated case, with the fault or message.

    Args:
        subject: Loads.
        root: What it is asked for.
        folder: Of the case.
        name: Of the mutated file.
        original: What the valid input gave.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = subject.load(root)
    except (ValueError, OSError) as error:
        return _message(subject, error, folder, name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "fault", f"{type(error).__name__} {_where(error)}: {_short(error, folder)}"
    same = alike(result, original)
    if subject.says is None:
        kept = subject.shape is not None and alike(subject.shape(result), subject.shape(original))
        if same or kept:
            return ("same" if same else "other"), ""
        return "fault", f"loaded as something else: {_difference(result, original)}"
    try:
        said = subject.says(root)
    except Untold:
        return ("same" if same else "other"), ""
    except Exception as error:
        if same and not isinstance(error, Wrong):
            return "same", ""
        return "fault", f"loaded, though {type(error).__name__}: {_short(error, folder)}"
    if alike(result, said):
        return ("same" if same else "other"), ""
    return "fault", f"loaded as what the file does not say: {_difference(result, said)}"


def _message(subject: Subject, error: Exception, folder: Path, name: str) -> tuple[str, str]:
    text = str(error)
    named = name in text or (subject.related and str(folder) in text)
    if not named:
        return (
            "fault",
            f"{type(error).__name__} names no file {_where(error)}: {_short(error, folder)}",
        )
    if len(text) > LONGEST:
        return "fault", f"a message of {len(text)} characters: {_short(error, folder)}"
    return "refused", _short(error, folder)


def _where(error: BaseException) -> str:
    """The innermost place in our own code."""
    ours = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "netllm" in frame.filename
    ]
    return f"at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def _short(error: BaseException, folder: Path) -> str:
    text = " ".join(str(error).replace(str(folder), "…").split())
    return text if len(text) <= 160 else text[:160] + "…"


def alike(one: Any, other: Any) -> bool:
    """Whether two results are equal, numbers up to rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) or isinstance(other, float):
        if not (isinstance(one, int | float) and isinstance(other, int | float)):
            return False
        return (isnan(one) and isnan(other)) or isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)


def _difference(one: Any, other: Any, place: str = "") -> str:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(f"{place}.{key}", one[key], other[key]) for key in one]
    elif (
        isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other)
    ):
        pairs = [(f"{place}[{i}]", a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return f"{place or 'it'} is {one!r:.60}, not {other!r:.60}"
    return next((_difference(a, b, at) for at, a, b in pairs if not alike(a, b)), "nothing")
