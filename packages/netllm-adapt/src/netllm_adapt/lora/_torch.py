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

from netllm_adapt.lora._dropout import dropped, kept


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
        return _forward(x, weight, bias, a, b, scale, dropout, seed)[0]
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
    seed: int | None,
) -> tuple[Tensor, Tensor]:
    rows = x.reshape(-1, x.shape[-1])
    hidden = rows if seed is None or not dropout else dropped(rows, dropout, seed)
    small = F.linear(hidden, a.to(x.dtype))
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
        y, small = _forward(x, weight, bias, a, b, scale, dropout, seed)
        ctx.save_for_backward(x, weight, a, b, small)
        ctx.scale, ctx.dropout, ctx.seed = scale, dropout, seed
        ctx.bias_dtype = None if bias is None else bias.dtype
        return y

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b, small = ctx.saved_tensors
        for_x, for_weight, for_bias, for_a, for_b = ctx.needs_input_grad[:5]
        seed = ctx.seed if ctx.dropout else None
        rows, dy = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
        d_small = dy @ (b * ctx.scale).to(x.dtype)
        return (
            _grad_x(dy, weight, d_small, a, ctx.dropout, seed).view_as(x) if for_x else None,
            dy.t() @ rows if for_weight else None,
            dy.sum(0, dtype=ctx.bias_dtype) if for_bias else None,
            _grad_a(d_small, rows, a, ctx.dropout, seed) if for_a else None,
            (dy.t() @ small).to(b.dtype).mul_(ctx.scale) if for_b else None,
            None,
            None,
            None,
        )


def _grad_x(
    dy: Tensor, weight: Tensor, d_small: Tensor, a: Tensor, dropout: float, seed: int | None
) -> Tensor:
    dx = dy @ weight
    if seed is None:
        return dx.addmm_(d_small, a.to(dx.dtype))
    low = d_small @ (a / (1 - dropout)).to(dx.dtype)
    return dx.add_(low.mul_(kept(low, dropout, seed)))


def _grad_a(d_small: Tensor, rows: Tensor, a: Tensor, dropout: float, seed: int | None) -> Tensor:
    hidden = rows if seed is None else dropped(rows, dropout, seed)
    return (d_small.t() @ hidden).to(a.dtype)
