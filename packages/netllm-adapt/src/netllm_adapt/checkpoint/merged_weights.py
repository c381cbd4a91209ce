"""Backbones with the low-rank matrices folded into their weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel

from netllm_adapt.backbone import is_scratch
from netllm_adapt.lora import active_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def merges(model: Any, merged: bool) -> bool:
    """Whether a model is to be saved merged: if asked for, or if it has no adapter any more.

    Raises:
        ValueError: if it is asked for, and packed weights or an adapter of another kind forbid it.
    """
    backbone: Any = model.backbone
    if is_scratch(model.spec.name) or not (merged or not isinstance(backbone, PeftModel)):
        return False
    if model.spec.quantise is not None:
        raise ValueError(
            f"`merged` must be False: the backbone's weights are packed in {model.spec.quantise}, "
            "and a sum would be rounded to the same bits. Save the adapter alone; it fits the "
            "plain backbone too."
        )
    if isinstance(backbone, PeftModel) and not hasattr(backbone, "merge_and_unload"):
        raise ValueError(
            f"`merged` must be False: an adapter of the kind {type(backbone.active_peft_config)} "
            "cannot be folded into weights."
        )
    return True


def merged_backbone(model: Any, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """A copy of the backbone whose weights hold what the model's own adapter adds.

    The sum is rounded once, to `dtype`, by default the backbone's own: in bfloat16 answers may
    differ in the last digits from those of the adapter beside the weights.
    """
    twin: Any = copy.deepcopy(model.backbone).to(dtype)
    if not isinstance(twin, PeftModel):
        return twin  # type: ignore[no-any-return]
    own = model.adapter or active_adapter(twin)
    twin.set_adapter(own)
    plain: PreTrainedModel = twin.merge_and_unload(adapter_names=[own])
    return plain
