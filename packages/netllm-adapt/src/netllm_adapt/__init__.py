"""Adapt one frozen language model: backbones, LoRA, pools, training, streaming decisions.

Names are looked up on first use, so that reading a pool loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm_adapt.backbone import backbones, load_backbone, pull
    from netllm_adapt.backbone.spec import BackboneSpec
    from netllm_adapt.batches import Examples
    from netllm_adapt.episodes import Episode, Ragged, return_to_go
    from netllm_adapt.lora import add_lora, load_lora
    from netllm_adapt.model.base import Adapted
    from netllm_adapt.model.decider import AdaptedModel
    from netllm_adapt.model.predictor import Forecast, Predictor
    from netllm_adapt.model.protocols import Encoder, Head
    from netllm_adapt.observations import SessionError
    from netllm_adapt.pool import Pool, PoolWriter
    from netllm_adapt.stream.policy import Policy
    from netllm_adapt.stream.stream import DecisionStream
    from netllm_adapt.stream.together import Together, TogetherStream
    from netllm_adapt.training.loop import fit, fit_supervised
    from netllm_adapt.training.recipe import Recipe

_HOMES = {
    "Adapted": "model.base",
    "AdaptedModel": "model.decider",
    "BackboneSpec": "backbone.spec",
    "DecisionStream": "stream.stream",
    "Encoder": "model.protocols",
    "Episode": "episodes",
    "Examples": "batches",
    "Forecast": "model.predictor",
    "Head": "model.protocols",
    "Policy": "stream.policy",
    "Pool": "pool",
    "PoolWriter": "pool",
    "Predictor": "model.predictor",
    "Ragged": "episodes",
    "Recipe": "training.recipe",
    "SessionError": "observations",
    "Together": "stream.together",
    "TogetherStream": "stream.together",
    "add_lora": "lora",
    "backbones": "backbone",
    "fit": "training.loop",
    "fit_supervised": "training.loop",
    "load_backbone": "backbone",
    "load_lora": "lora",
    "pull": "backbone",
    "return_to_go": "episodes",
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
