"""Encoders and heads by name: of installed packages by entry point, of one's own by class.

What a checkpoint says is only looked up: it imports nothing but entry points.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from torch import nn

_log = logging.getLogger(__name__)
GROUPS = ("netllm.encoders", "netllm.heads")


def part_name(part: nn.Module, group: str) -> str:
    """The name that finds the class of `part` again: its entry point, else the class's own.

    Raises:
        ValueError: if another class is installed under that name.
    """
    registered = _registered(part, group)
    name = type(part).__name__ if registered is None else registered
    if registered is None and list(entry_points(group=group, name=name)):
        raise ValueError(
            f"{type(part).__module__}.{name} must not be called as an installed part of '{group}' "
            "is, or a checkpoint could be read with that one. Rename your class."
        )
    return name


def own(*parts: nn.Module) -> list[type[nn.Module]]:
    """The classes of encoder and head that no entry point names."""
    pairs = zip(parts, GROUPS, strict=True)
    return [type(part) for part, group in pairs if _registered(part, group) is None]


def note_own(encoder: nn.Module, head: nn.Module) -> None:
    """Say once how a checkpoint of these parts is read, if not by its folder alone."""
    if classes := own(encoder, head):
        _note(", ".join(found.__name__ for found in classes))


@lru_cache
def _note(names: str) -> None:
    _log.warning(
        "The checkpoint holds no code of %s, and no installed package names it. Who reads it gives "
        "it along: from_pretrained(FOLDER, parts=[%s]).",
        names,
        names,
    )


def _registered(part: nn.Module, group: str) -> str | None:
    """The entry point that leads to the class of `part`."""
    for point in entry_points(group=group):
        try:
            found = point.load()
        except (ImportError, AttributeError):
            continue  # another package's fault, which is told when that part is asked for
        if found is type(part):
            return point.name
    return None


def build_part(
    group: str, description: Mapping[str, Any], path: Path, classes: Sequence[type[nn.Module]]
) -> nn.Module:
    """A part as a checkpoint describes it: of these classes, else of an installed package.

    Raises:
        ValueError: naming the file, if there is none of that name or it cannot be made so.
    """
    try:
        name, arguments = description["name"], dict(description["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: each part must have a `name` of '{group}' and its `config`, got "
            f"{description!r}. Take config.json as it was saved."
        ) from error
    make = _found(str(name), group, path, classes)
    try:
        part: nn.Module = make(**arguments)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: the part {name!r} of '{group}' cannot be made from {arguments}: {error}. "
            "Take config.json as it was saved, by the same version of the part's package."
        ) from error
    return part


def _found(name: str, group: str, path: Path, classes: Sequence[type[nn.Module]]) -> Any:
    points = {point.name: point for point in entry_points(group=group)}
    if name in points:
        return points[name].load()
    given = {one for one in classes if one.__name__ == name}
    if len(given) == 1:
        return given.pop()
    if given:
        raise ValueError(f"`parts` must hold one class called {name}, got {len(given)} others.")
    raise ValueError(
        f"{path}: needs the part {name!r} of '{group}', installed are {sorted(points)}. Install "
        f"the package that brings it; if it is a class of your own, give it along: "
        f"from_pretrained(FOLDER, parts=[{name}])."
    )
