"""Encoders and heads by name: of installed packages by entry point, of one's own by class.

What a checkpoint says is only looked up: it imports nothing but entry points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from netllm_adapt.checkpoint.config import Part
from netllm_adapt.files.reading import tensor_shapes

_SPARE = 4
"""Parts may make parameters anew before they keep them."""
_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError)
"""What constructors make of arguments that are none of theirs, beside the two usual ones."""


def part_name(part: nn.Module, group: str) -> str:
    """The name that finds the class of `part` again: its entry point, else the class's own.

    Raises:
        ValueError: if another class is installed under that name.
    """
    points = entry_points(group=group)
    for point in points:
        try:
            if point.load() is type(part):
                return point.name
        except (ImportError, AttributeError):
            continue  # another package's fault, which is told when that part is asked for
    name = type(part).__name__
    if name in points.names:
        raise ValueError(
            f"{type(part).__module__}.{name} must not be called as an installed part of '{group}' "
            "is, or a checkpoint could be read with that one. Rename your class."
        )
    return name


def build_part(
    group: str, described: Part, path: Path, weights: Path, classes: Sequence[type[nn.Module]]
) -> nn.Module:
    """A part as a checkpoint describes it: of these classes, else of an installed package.

    It is first made without memory, and made only if its weights are those in the file.

    Args:
        group: of its entry point.
        described: by the checkpoint.
        path: where, for errors.
        weights: the file of its weights.
        classes: of one's own.

    Raises:
        ValueError: naming the file, if there is none of that name, it cannot be made so, or its
            weights are others.
    """
    make = partial(_class_of(described.name, group, path, classes), **described.config)
    shapes = tensor_shapes(weights)
    try:
        with _parameters_bounded(shapes):
            _check_without_memory(make, shapes)
            part: nn.Module = make()
    except _OtherWeights as error:
        raise ValueError(
            f"{weights}: its weights must be as config.json beside it says, got others: {error}. "
            "Take all files of the folder from one checkpoint, config.json as it was saved; for "
            "another backbone, adapt anew: `netllm adapt --backbone`."
        ) from error
    except (*_FAULTS, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: the part {described.name!r} of '{group}' cannot be made from "
            f"{described.config!s:.300}: {error}. Take config.json as it was saved, by the same "
            "version of the part's package."
        ) from error
    return part


def _check_without_memory(
    make: Callable[[], nn.Module], shapes: Mapping[str, Sequence[int]]
) -> None:
    """Compare a part made on the meta device with its weights, if its class can be made so."""
    try:
        with torch.device("meta"):
            part = make()
    except NotImplementedError:
        return
    except RuntimeError as error:
        if "meta" in str(error):  # it reads values of what it makes
            return
        raise
    wanted = {name: list(value.shape) for name, value in part.state_dict().items()}
    for name in sorted({*wanted, *shapes}):
        if wanted.get(name) != shapes.get(name):
            must, got = (one.get(name, "none") for one in (wanted, shapes))
            raise _OtherWeights(f"{name} must be {must}, is {got}")


class _OtherWeights(Exception):
    """The weights that a part needs are not those of its file."""


@contextmanager
def _parameters_bounded(shapes: Mapping[str, Sequence[int]]) -> Iterator[None]:
    """A block in which no module may get more parameters than a file has tensors, several times."""
    most = _SPARE * len(shapes) + 64
    made = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise _OtherWeights(f"more than {most} parameters for {len(shapes)} tensors")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _class_of(name: str, group: str, path: Path, classes: Sequence[type[nn.Module]]) -> Any:
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
