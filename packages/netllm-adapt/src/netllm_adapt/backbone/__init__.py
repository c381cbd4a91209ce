"""Frozen language models without their LM head, called with ``inputs_embeds``."""

from netllm_adapt.backbone.cache import backbone_folder, cache_folder, check
from netllm_adapt.backbone.catalogue import Backbone, Entry, Weights, backbones
from netllm_adapt.backbone.download import pull
from netllm_adapt.backbone.load import (
    embedding_width,
    empty_backbone,
    load_backbone,
    load_tokenizer,
)
from netllm_adapt.backbone.scratch import is_scratch
from netllm_adapt.backbone.trust import check_trusted

__all__ = [
    "Backbone",
    "Entry",
    "Weights",
    "backbone_folder",
    "backbones",
    "cache_folder",
    "check",
    "check_trusted",
    "embedding_width",
    "empty_backbone",
    "is_scratch",
    "load_backbone",
    "load_tokenizer",
    "pull",
]
