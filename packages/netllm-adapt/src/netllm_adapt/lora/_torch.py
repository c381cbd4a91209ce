"""Matrix products in the best order: the large activations are read and written least often.

The low-rank products accumulate into the frozen layer's own output (``addmm_``), so the passes of
eager LoRA over an extra tensor of the output's size fall away. Kept for the backward pass are
``x`` and ``S = x̂·Aᵀ`` alone; a dropout mask is drawn again from its seed.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from netllm_adapt.lora._dropout import draw_mask, masked


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
    """``x·Wᵀ + bias + scale·(x̂·Aᵀ)·Bᵀ`` with its own backward pass."""
    if not torch.is_grad_enabled():
        mask = _mask(x, dropout, seed)
        return _forward(x, weight, bias, a, b, scale, dropout, mask)[0]
    result: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call, unused-ignore]
        x, weight, bias, a, b, scale, dropout, seed
    )
    return result


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float,
    dropout: float,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    rows = x.reshape(-1, x.shape[-1])
    if mask is not None:
        small = F.linear(masked(rows, mask), (a / (1 - dropout)).to(x.dtype))
    else:
        small = F.linear(rows, a.to(x.dtype))
    y = F.linear(rows, weight, bias)
    y.addmm_(small, (b * scale).to(x.dtype).t())
    return y.view(*x.shape[:-1], y.shape[-1]), small


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
        dropout: float,
        seed: int | None,
    ) -> Tensor:
        mask = _mask(x, dropout, seed)
        y, small = _forward(x, weight, bias, a, b, scale, dropout, mask)
        ctx.save_for_backward(x, weight, a, b, small)
        ctx.scale, ctx.dropout, ctx.seed = scale, dropout, seed
        ctx.bias_dtype = None if bias is None else bias.dtype
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b, small = ctx.saved_tensors
        for_x, for_weight, for_bias, for_a, for_b = ctx.needs_input_grad[:5]
        rows, dy = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
        mask = _mask(x, ctx.dropout, ctx.seed)
        d_small = dy @ (b * ctx.scale).to(x.dtype)
        return (
            _grad_x(dy, weight, d_small, a, ctx.dropout, mask).view_as(x) if for_x else None,
            dy.t() @ rows if for_weight else None,
            dy.sum(0, dtype=ctx.bias_dtype) if for_bias else None,
            _grad_a(d_small, rows, a, ctx.dropout, mask) if for_a else None,
            (dy.t() @ small).to(b.dtype).mul_(ctx.scale) if for_b else None,
            None,
            None,
            None,
        )


def _mask(x: Tensor, dropout: float, seed: int | None) -> Tensor | None:
    """The dropout mask of the rows of ``x``; None without dropout."""
    if not dropout or seed is None:
        return None
    return draw_mask(x, dropout, seed).view(-1, x.shape[-1])


def _grad_x(
    dy: Tensor, weight: Tensor, d_small: Tensor, a: Tensor, dropout: float, mask: Tensor | None
) -> Tensor:
    dx = dy @ weight
    if mask is None:
        return dx.addmm_(d_small, a.to(dx.dtype))
    return dx.add_(masked(d_small @ (a / (1 - dropout)).to(dx.dtype), mask))


def _grad_a(
    d_small: Tensor, rows: Tensor, a: Tensor, dropout: float, mask: Tensor | None
) -> Tensor:
    if mask is None:
        return (d_small.t() @ rows).to(a.dtype)
    return (d_small.t() @ masked(rows, mask)).to(a.dtype).div_(1 - dropout)
