"""The fields of the recipes of all installed tasks, as flags of one command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import netllm_adapt.training.recipe

from netllm import registry


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
