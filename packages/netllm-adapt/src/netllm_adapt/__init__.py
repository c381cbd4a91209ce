"""Adapt one frozen language model: backbones, LoRA, pools, training, streaming decisions.

Names are looked up on first use, so that reading a pool loads no torch.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm_adapt.backbone import backbones as backbones
    from netllm_adapt.backbone import load_backbone as load_backbone
    from netllm_adapt.backbone import pull as pull
    from netllm_adapt.batches import Examples as Examples
    from netllm_adapt.checkpoint.config import BackboneSpec as BackboneSpec
    from netllm_adapt.episodes import Episode as Episode
    from netllm_adapt.episodes import Ragged as Ragged
    from netllm_adapt.episodes import return_to_go as return_to_go
    from netllm_adapt.lora import add_lora as add_lora
    from netllm_adapt.lora import load_lora as load_lora
    from netllm_adapt.model.base import Adapted as Adapted
    from netllm_adapt.model.decider import AdaptedModel as AdaptedModel
    from netllm_adapt.model.predictor import Forecast as Forecast
    from netllm_adapt.model.predictor import Predictor as Predictor
    from netllm_adapt.model.protocols import Encoder as Encoder
    from netllm_adapt.model.protocols import Head as Head
    from netllm_adapt.model.protocols import PredictorEncoder as PredictorEncoder
    from netllm_adapt.model.shared_backbone import Together as Together
    from netllm_adapt.observations import SessionError as SessionError
    from netllm_adapt.pool import Pool as Pool
    from netllm_adapt.pool import PoolWriter as PoolWriter
    from netllm_adapt.stream.decision_stream import DecisionStream as DecisionStream
    from netllm_adapt.stream.policy import Policy as Policy
    from netllm_adapt.stream.several_tasks import TogetherStream as TogetherStream
    from netllm_adapt.training.loop import fit as fit
    from netllm_adapt.training.recipe import Recipe as Recipe

_HOMES = {
    "Adapted": "model.base",
    "AdaptedModel": "model.decider",
    "BackboneSpec": "checkpoint.config",
    "DecisionStream": "stream.decision_stream",
    "Encoder": "model.protocols",
    "Episode": "episodes",
    "Examples": "batches",
    "Forecast": "model.predictor",
    "Head": "model.protocols",
    "Policy": "stream.policy",
    "Pool": "pool",
    "PoolWriter": "pool",
    "Predictor": "model.predictor",
    "PredictorEncoder": "model.protocols",
    "Ragged": "episodes",
    "Recipe": "training.recipe",
    "SessionError": "observations",
    "Together": "model.shared_backbone",
    "TogetherStream": "stream.several_tasks",
    "add_lora": "lora",
    "backbones": "backbone",
    "fit": "training.loop",
    "load_backbone": "backbone",
    "load_lora": "lora",
    "pull": "backbone",
    "return_to_go": "episodes",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"netllm_adapt.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'netllm_adapt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def _of_use(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in str(record.msg)


# PEFT imports bitsandbytes where it is installed. On some CPUs that warns of a missing package
# `kernels`, with a product in 4 bits that `backbone.quantise` leaves out.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_of_use)
