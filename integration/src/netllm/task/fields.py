"""The fields of a setting or recipe, with what their class says of them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.unknown_names import unknown

if TYPE_CHECKING:
    from netllm_adapt import Recipe

FIXED = frozenset({"name", "data", "synthetic"})
"""Fields of every setting that cannot be overridden."""


@dataclass(frozen=True)
class Field:
    """One field, as a reader needs it to change it."""

    name: str
    """Its name, which ends with its unit where it has one."""
    text: str
    """What it is."""
    default: str | None
    """Its value unless it is changed; None where that is nothing."""


def fields_of(setting: Any) -> list[Field]:
    """The fields of a setting that `--set` overrides, with their values as defaults.

    Of a setting that is no dataclass nothing is known. It may name more fixed fields in
    `fixed_fields`, and fields of its members that are overridden as if they were its own in
    `inner_fields`.
    """
    fixed = FIXED | frozenset(getattr(setting, "fixed_fields", ()))
    names = [f.name for f in dataclasses.fields(setting)] if _is_record(setting) else []
    found = list(described(setting, only=[name for name in names if name not in fixed]))
    for member, names in dict(getattr(setting, "inner_fields", {})).items():
        found += described(getattr(setting, member), only=names)
    return found


def described(record: Any, *, only: Collection[str] | None = None) -> Iterator[Field]:
    """The fields of a dataclass's instance, or some of them."""
    if not _is_record(record):
        return
    told = texts(type(record))
    for field in dataclasses.fields(record):
        if only is None or field.name in only:
            value = getattr(record, field.name)
            yield Field(field.name, told.get(field.name, ""), _shown(value))


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with single fields replaced.

    Raises:
        ValueError: for a field that it lacks, with the nearest ones.
    """
    known = {field.name for field in dataclasses.fields(recipe)}
    for name in changes:
        if name not in known:
            raise unknown("field of the recipe", name, known)
    return dataclasses.replace(recipe, **changes)


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _shown(value: Any) -> str | None:
    if value is None or (isinstance(value, tuple) and not value):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(str(_shown(one)) for one in value)
    if _is_record(value):
        return getattr(value, "name", None)
    if isinstance(value, float):
        return f"{value:g}"
    return value.name if isinstance(value, Path) else str(value)


def texts(kind: type) -> dict[str, str]:
    """The docstrings under a class's fields, and under those of the classes it comes from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):  # built in, or made by a program
            continue
        body = ast.parse(source).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for one, after in pairwise(statements):
            match one, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str() as text)),
                ):
                    found[name] = " ".join(text.split())
    return found
