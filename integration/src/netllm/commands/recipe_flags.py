"""The fields of the recipes of all installed tasks, as flags of one command."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import netllm_adapt.training.recipe
from cyclopts import Parameter

from netllm import registry
from netllm.task.fields import texts


def _flags() -> Any:
    """A recipe with the fields of every task's; where names are the same, the first task's."""
    kinds: list[type] = [netllm_adapt.training.recipe.Recipe]
    for name in registry.tasks():
        try:
            kinds.append(type(registry.task(name).usual_recipe()))
        except ValueError:  # another package's fault, which `netllm list` tells, hides no task
            continue
    special = [one for one in kinds if not any(issubclass(o, one) for o in kinds if o is not one)]
    return dataclass(frozen=True)(type("Recipe", tuple(dict.fromkeys(special)), {}))


Recipe = _flags()
"""All fields; `recipe_files.recipe_for` refuses those that a task's own recipe lacks."""


def _changes() -> Any:
    """The same fields, each None unless it is given."""
    kinds, told = get_type_hints(Recipe), texts(Recipe)
    fields = [
        (one.name, Annotated[kinds[one.name] | None, Parameter(help=told.get(one.name))], None)
        for one in dataclasses.fields(Recipe)
    ]
    here = {"__module__": __name__}  # else cyclopts takes it for a type of Python's own
    return dataclasses.make_dataclass("Changes", fields, frozen=True, namespace=here)


Changes = _changes()
"""Fields of a checkpoint's recipe to replace."""
