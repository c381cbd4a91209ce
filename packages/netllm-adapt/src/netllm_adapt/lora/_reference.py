"""The plainest form of the operation: what every other back end is compared with."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from netllm_adapt.lora._dropout import draw_mask


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float,
    dropout: float,
    seed: int | None,
    /,
) -> tuple[Tensor, Tensor]:
    """``x·Wᵀ + bias + S·Bᵀ``, and ``S = scale·x̂·Aᵀ``."""
    small = scale * F.linear(_dropped(x, dropout, seed), a.to(x.dtype))
    y = F.linear(x, weight, bias) + F.linear(small, b.to(x.dtype))
    return y, small.reshape(-1, len(a))


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    a: Tensor,
    b: Tensor,
    small: Tensor,
    scale: float,
    dropout: float,
    seed: int | None,
    needs: Sequence[bool],
    /,
) -> tuple[Tensor | None, ...]:
    """All five gradients by the chain rule, asked for or not."""
    rows, dy = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    d_small = scale * (dy @ b.to(x.dtype))
    through = _dropped((d_small @ a.to(x.dtype)).view(x.shape), dropout, seed)
    every = (
        (dy @ weight).view(x.shape) + through,
        dy.t() @ rows,
        dy.sum(0),
        (d_small.t() @ _dropped(x, dropout, seed).reshape(rows.shape)).to(a.dtype),
        (dy.t() @ small).to(b.dtype),
    )
    return tuple(value if needed else None for value, needed in zip(every, needs, strict=True))


def _dropped(x: Tensor, dropout: float, seed: int | None) -> Tensor:
    """x̂."""
    if not dropout or seed is None:
        return x
    return x * (draw_mask(x, dropout, seed) != 0) / (1 - dropout)
