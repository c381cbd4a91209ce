"""The plainest form of the operation: what every other back end is compared with."""

import torch.nn.functional as F
from torch import Tensor

from netllm_adapt.lora._dropout import dropped


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
    hidden = x if seed is None or not dropout else dropped(x, dropout, seed)
    low = F.linear(F.linear(hidden, a.to(x.dtype)), b.to(x.dtype))
    return F.linear(x, weight, bias) + scale * low
