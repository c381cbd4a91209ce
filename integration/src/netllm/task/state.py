"""What a model needs to decide, beside its weights: a small frozen dataclass of each task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class NoState:
    """Of a task whose models need nothing but their weights."""


def state_of(model: Any, kind: type[Kind]) -> Kind:
    """What a model keeps in `state`, as its task's dataclass.

    Raises:
        ValueError: if a value is of another type than its field.
    """
    import msgspec

    try:
        return msgspec.convert(model.state, kind)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"The model's `state` must be as it was saved: {error}. Take config.json as it was."
        ) from error
