"""The settings of one training run of viewport prediction."""

from dataclasses import dataclass

import netllm_adapt.training.recipe


@dataclass(frozen=True)
class Recipe(netllm_adapt.training.recipe.Recipe):
    """How a model of viewport prediction is adapted: the fields of every recipe, and images."""

    multimodal: bool = False
    """See images too (vp alone)."""
    image_model: str = "vit_tiny_patch16_224"
    """timm's name of the frozen vision model."""
    image_weights: str = ""
    """Its weights: a safetensors file, `random` (by the seed), or empty for timm's own."""
