"""Where a task takes place: settings, their fields, and changes to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, get_type_hints

from netllm.task.fields import FIXED
from netllm.unknown_names import unknown

Kind = TypeVar("Kind")


class Setting(Protocol):
    """One environment configuration of a task. A name and whether it is synthetic are all.

    What else it may have is read by one function each:

    | member | reader | meaning |
    |---|---|---|
    | `training_fields` | `netllm.task.training_fields` | fields that change what is trained on, and nothing that is tested |
    | `fixed_fields`, `inner_fields` | `netllm.task.fields.fields_of` | which fields `--set` overrides, for the help |
    | `sources`, `divided` | `netllm.data.sources` | what data it is made of, and how a person's own became parts |

    If it is a dataclass, `netllm COMMAND TASK --help` lists its fields with the docstrings under
    them. Its episodes have an `id`, and may have `contents`, digests of what they show: who has
    learned from one of them is marked where it is tested on it.
    """  # noqa: E501

    @property
    def name(self) -> str:
        """Its name, such as `default`."""
        ...

    @property
    def synthetic(self) -> bool:
        """Whether seeded generators serve it, because there is no real data."""
        ...


def training_fields(setting: Any) -> frozenset[str]:
    """Fields of a setting that change what is trained on and nothing else, as it says itself."""
    return frozenset(getattr(setting, "training_fields", ()))


def named(presets: Mapping[str, Kind], name: str, overrides: Mapping[str, Any]) -> Kind:
    """The preset of that name, a frozen dataclass, with some of its fields overridden.

    Raises:
        ValueError: for an unknown name or field (with the nearest ones), or a value of another
            type than the field's.
    """
    if name not in presets:
        raise unknown("setting", name, presets)
    preset: Any = presets[name]
    fields = [field.name for field in dataclasses.fields(preset) if field.name not in FIXED]
    for field in overrides:
        if field not in fields:
            raise unknown("field", field, fields)
    types = get_type_hints(type(preset)) if overrides else {}
    changes = {field: _of_type(field, value, types[field]) for field, value in overrides.items()}
    changed: Kind = dataclasses.replace(preset, **changes)
    return changed


def _of_type(field: str, value: Any, kind: Any) -> Any:
    """The value as its field's type, also from text as a shell gives it."""
    import msgspec

    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"`{field}`: {error}, got {value!r}.") from error


def described(presets: Mapping[str, Any]) -> dict[str, str]:
    """A line about each preset: what it differs in from the first."""
    lines: dict[str, str] = {}
    first: dict[str, Any] = {}
    for name, preset in presets.items():
        own = {field.name: getattr(preset, field.name) for field in dataclasses.fields(preset)}
        first = first or own
        differs = [f"{key} {value}" for key, value in own.items() if value != first[key]]
        lines[name] = ", ".join(differs[1:] if differs[:1] == [f"name {name}"] else differs) or (
            type(preset).__doc__ or ""
        ).partition("\n")[0].rstrip(".")
    return lines
