"""Matrix products in the best order: the large activations are read and written least often.

The low-rank products accumulate into the frozen layer's own output (``addmm_``), so the passes of
eager LoRA over an extra tensor of the output's size fall away. Kept for the backward pass are
``x`` and ``S = scale·x̂·Aᵀ`` alone; a dropout mask is drawn again from its seed.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from netllm_adapt.lora._dropout import draw_mask, masked
from netllm_adapt.lora._frozen import linear, turned_linear


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
    rows = matrix(x)  # (M, K)
    mask = mask_of(rows, dropout, seed)
    small = shrink(rows, a, scale / (1 - dropout), mask)
    y = linear(rows, weight, bias)
    y.addmm_(small, as_type(b, x.dtype).t())
    return y if x.ndim == 2 else y.view(*x.shape[:-1], y.shape[-1]), small


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
    """The gradients that are asked for; dS is computed once for x and a.

    dY is read for dS and B's gradient while it is in the cache, before the large product for x.
    """
    for_x, for_weight, for_bias, for_a, for_b = needs
    rows, dy = matrix(x), matrix(grad)
    mask = mask_of(rows, dropout, seed) if for_x or for_a else None
    d_small = grad_small(dy, b, scale / (1 - dropout)) if for_x or for_a else small
    db = grad_b(dy, small, b) if for_b else None
    dx = add_low_rank(turned_linear(dy, weight), d_small, a, mask) if for_x else None
    return (
        dx if dx is None or x.ndim == 2 else dx.view(x.shape),
        dy.t() @ rows if for_weight else None,
        dy.sum(0) if for_bias else None,
        grad_a(d_small, rows, a, mask) if for_a else None,
        db,
    )


def matrix(x: Tensor) -> Tensor:
    """``x`` with all axes but the last as one; a call that changes nothing costs a microsecond."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def as_type(value: Tensor, dtype: torch.dtype) -> Tensor:
    """``value`` in another dtype."""
    return value if value.dtype == dtype else value.to(dtype)


def mask_of(rows: Tensor, dropout: float, seed: int | None) -> Tensor | None:
    """The dropout mask of ``rows``; None without dropout."""
    return draw_mask(rows, dropout, seed) if dropout and seed is not None else None


def shrink(rows: Tensor, a: Tensor, factor: float, mask: Tensor | None) -> Tensor:
    """``factor·x̂·Aᵀ``: (M, rank)."""
    small = F.linear(rows if mask is None else masked(rows, mask), as_type(a, rows.dtype))
    return small if factor == 1 else small.mul_(factor)


def grad_small(dy: Tensor, b: Tensor, factor: float) -> Tensor:
    """``factor·dY·B``: (M, rank)."""
    d_small = dy @ as_type(b, dy.dtype)
    return d_small if factor == 1 else d_small.mul_(factor)


def add_low_rank(dx: Tensor, d_small: Tensor, a: Tensor, mask: Tensor | None) -> Tensor:
    """``dx`` plus what comes through the low-rank part; ``dx`` is overwritten."""
    if mask is None:
        return dx.addmm_(d_small, as_type(a, dx.dtype))
    return dx.add_(masked(d_small @ as_type(a, dx.dtype), mask))


def grad_a(d_small: Tensor, rows: Tensor, a: Tensor, mask: Tensor | None) -> Tensor:
    """``dSᵀ·x̂`` in the dtype of ``a``."""
    return as_type(d_small.t() @ (rows if mask is None else masked(rows, mask)), a.dtype)


def grad_b(dy: Tensor, small: Tensor, b: Tensor) -> Tensor:
    """``dYᵀ·S`` in the dtype of ``b``."""
    return as_type(dy.t() @ small, b.dtype)
