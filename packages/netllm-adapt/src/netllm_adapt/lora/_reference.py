"""The plainest form of the operation: what every other back end is compared with."""

import torch.nn.functional as F
from torch import Tensor

from netllm_adapt.lora._dropout import draw_mask


def lora_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float,
    dropout: float,
    seed: int | None,
    /,
) -> Tensor:
    """``x·Wᵀ + bias + scale·(x̂·Aᵀ)·Bᵀ``, left to autograd."""
    hidden = x
    if dropout and seed is not None:
        hidden = x * (draw_mask(x, dropout, seed) != 0) / (1 - dropout)
    low = F.linear(F.linear(hidden, a.to(x.dtype)), b.to(x.dtype))
    return F.linear(x, weight, bias) + scale * low
