"""Which steps a decision's tokens attended; what a model looks at need not be what moves it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from netllm_adapt.attention import mask_argument
from numpy import ndarray

from netllm.explaining.decision import Decision


@torch.no_grad()
def attention(decision: Decision) -> Float[ndarray, "layer ago"]:
    """By block of the backbone the share of attention that each step gets, the newest first.

    It is the mean over heads and over the decision's own observation tokens; of a predictor over
    its last token, by token in place of step. The backbone's attention is `eager` meanwhile.
    """
    backbone: Any = decision.model.backbone
    given = decision.backbone_input(decision.numbers)
    before = backbone.config._attn_implementation
    backbone.set_attn_implementation("eager")
    try:
        out = backbone(
            inputs_embeds=given.tokens,
            attention_mask=mask_argument(backbone, given.mask, given.tokens.dtype),
            position_ids=given.position.clamp(min=0),
            use_cache=False,
            output_attentions=True,
        )
    finally:
        backbone.set_attn_implementation(before)
    ago = decision.tokens().numpy()
    own = np.flatnonzero(ago == 0)
    own = own[:-1] if len(own) > 1 else own  # the last one is the action, which came afterwards
    layers = [weights[0].mean(0)[own].mean(0).float().cpu().numpy() for weights in out.attentions]
    return np.stack([np.bincount(ago, weights) for weights in layers])
