"""Frozen language models without their LM head, called with ``inputs_embeds``."""

from netllm_adapt.backbone._cache import backbone_folder, cache_folder
from netllm_adapt.backbone._catalogue import Backbone, Entry, Weights, backbones
from netllm_adapt.backbone._load import load_backbone, load_tokenizer
from netllm_adapt.backbone._pull import pull
from netllm_adapt.backbone._scratch import is_scratch
from netllm_adapt.backbone._sound import check
from netllm_adapt.backbone._trust import check_trusted

__all__ = [
    "Backbone",
    "Entry",
    "Weights",
    "backbone_folder",
    "backbones",
    "cache_folder",
    "check",
    "check_trusted",
    "is_scratch",
    "load_backbone",
    "load_tokenizer",
    "pull",
]
