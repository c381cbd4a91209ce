"""Single fields of a recipe, given by name."""

from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Recipe = TypeVar("Recipe", bound=DataclassInstance)


def override(recipe: "Recipe", values: Mapping[str, int | float | str | bool]) -> "Recipe":
    """The recipe with single fields replaced.

    Raises:
        ValueError: there is no such field, or the value has another type.
    """
    known = {field.name: type(field.default) for field in fields(recipe)}
    for name, value in values.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"`{name}` is no field of the recipe.{hint} Known: {', '.join(known)}."
            )
        if type(value) is not known[name] and (known[name], type(value)) != (float, int):
            raise ValueError(f"`{name}` must be a {known[name].__name__}, got {value!r}.")
    return replace(recipe, **values)
