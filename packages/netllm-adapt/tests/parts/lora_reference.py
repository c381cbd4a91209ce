"""The operation in its plainest form, by autograd: both ways to compute it are held against it."""

from __future__ import annotations

import torch.nn.functional as F
from netllm_adapt.lora.dropout import draw_mask
from torch import Tensor


def reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float,
    *,
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """``x·Wᵀ + bias + scale·(x̂·Aᵀ)·Bᵀ``."""
    dropped = x
    if dropout:
        dropped = x * (draw_mask(x.detach(), dropout, seed) != 0) / (1 - dropout)
    low = F.linear(scale * F.linear(dropped, a.to(x.dtype)), b.to(x.dtype))
    return F.linear(x, weight, bias) + low
