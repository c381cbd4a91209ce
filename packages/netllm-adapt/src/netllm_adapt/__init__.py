"""Adapt one frozen language model: backbones, LoRA, pools, training, streaming decisions.

Names are looked up on first use, so that reading a pool loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm_adapt.adapted import Adapted, BackboneSpec
    from netllm_adapt.backbone import backbones, load_backbone, pull
    from netllm_adapt.episodes import Episode
    from netllm_adapt.lora import add_lora, load_lora
    from netllm_adapt.model import AdaptedModel, Encoder, Head
    from netllm_adapt.observations import SessionError
    from netllm_adapt.policy import Policy
    from netllm_adapt.pool import Pool, PoolWriter
    from netllm_adapt.predictor import Examples, Forecast, Predictor
    from netllm_adapt.ragged import Ragged
    from netllm_adapt.recipe import Recipe
    from netllm_adapt.returns import return_to_go
    from netllm_adapt.stream import DecisionStream
    from netllm_adapt.together import Together, TogetherStream
    from netllm_adapt.training import fit, fit_supervised

_HOMES = {
    "Adapted": "adapted",
    "AdaptedModel": "model",
    "BackboneSpec": "adapted",
    "DecisionStream": "stream",
    "Encoder": "model",
    "Episode": "episodes",
    "Examples": "predictor",
    "Forecast": "predictor",
    "Head": "model",
    "Policy": "policy",
    "Pool": "pool",
    "PoolWriter": "pool",
    "Predictor": "predictor",
    "Ragged": "ragged",
    "Recipe": "recipe",
    "SessionError": "observations",
    "Together": "together",
    "TogetherStream": "together",
    "add_lora": "lora",
    "backbones": "backbone",
    "fit": "training",
    "fit_supervised": "training",
    "load_backbone": "backbone",
    "load_lora": "lora",
    "pull": "backbone",
    "return_to_go": "returns",
}

__all__ = [
    "Adapted",
    "AdaptedModel",
    "BackboneSpec",
    "DecisionStream",
    "Encoder",
    "Episode",
    "Examples",
    "Forecast",
    "Head",
    "Policy",
    "Pool",
    "PoolWriter",
    "Predictor",
    "Ragged",
    "Recipe",
    "SessionError",
    "Together",
    "TogetherStream",
    "add_lora",
    "backbones",
    "fit",
    "fit_supervised",
    "load_backbone",
    "load_lora",
    "pull",
    "return_to_go",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"netllm_adapt.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'netllm_adapt' has no attribute {name!r}")
