"""The fields of every task's recipe, as flags of one command."""

from dataclasses import dataclass

import netllm.cjs.recipe
import netllm.vp.recipe


@dataclass(frozen=True)
class Recipe(netllm.cjs.recipe.Recipe, netllm.vp.recipe.Recipe):
    """All fields; `recipes.recipe_for` refuses those that a task's own recipe lacks."""
