"""The settings of one training run of cluster job scheduling."""

from dataclasses import dataclass

import netllm_adapt.training.recipe


@dataclass(frozen=True)
class Recipe(netllm_adapt.training.recipe.Recipe):
    """How a model of cluster job scheduling is adapted: the fields of every recipe, and graphs."""

    conv: str = "decima"
    """How a stage learns of its children: `decima`, `gin`, `gat`, `sage`, a layer of PyG (cjs)."""
