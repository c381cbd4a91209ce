"""Several layers that read the same input, such as q, k and v: one shrink for all of them.

The input is read once for all the A, and its gradient is summed in place. Outputs and gradients
are those of ``lora_linear`` layer by layer.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from netllm_adapt.lora._check import check
from netllm_adapt.lora._op import autocast
from netllm_adapt.lora._torch import as_type, grad_b, grad_small, matrix


def lora_linear_grouped(
    x: Float[Tensor, "*batch inputs"],
    weights: Sequence[Float[Tensor, "_ inputs"]],
    biases: Sequence[Float[Tensor, " _"] | None],
    matrices: Sequence[tuple[Float[Tensor, "_ inputs"], Float[Tensor, "_ _"]]],
    scales: Sequence[float],
) -> tuple[Float[Tensor, "*batch _"], ...]:
    """``lora_linear(x, weights[i], biases[i], *matrices[i], scales[i])`` for every i; no dropout.

    Raises:
        ValueError: If the sequences differ in length, or the arguments of a layer do not fit.
    """
    lengths = {len(weights), len(biases), len(matrices), len(scales)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "There must be as many weights, biases, matrices and scales, at least one, got "
            f"{len(weights)}, {len(biases)}, {len(matrices)} and {len(scales)}."
        )
    flat: list[Tensor | None] = []
    rows = x
    for i, (weight, bias, (a, b)) in enumerate(zip(weights, biases, matrices, strict=True)):
        rows, weight, bias = autocast(x, weight, bias)
        check(rows, weight, bias, a, b, 0.0, f"lora_linear_grouped, layer {i}")
        flat += [weight, bias, a, b]
    result: tuple[Tensor, ...] = _Grouped.apply(  # type: ignore[no-untyped-call, unused-ignore]
        rows, tuple(scales), *flat
    )
    return result


def _stacked(matrices: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat([as_type(a, dtype) for a in matrices])


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scales: tuple[float, ...], *flat: Tensor
    ) -> tuple[Tensor, ...]:
        rows = matrix(x)
        weights, biases, shrinks, expands = (flat[i::4] for i in range(4))
        small = F.linear(rows, _stacked(shrinks, x.dtype))  # (M, sum of ranks)
        parts = small.split([len(a) for a in shrinks], dim=1)
        outputs = []
        for weight, bias, b, part, scale in zip(
            weights, biases, expands, parts, scales, strict=True
        ):
            y = F.linear(rows, weight, bias)
            y.addmm_(part.mul_(scale) if scale != 1 else part, as_type(b, x.dtype).t())
            outputs.append(y.view(*x.shape[:-1], len(weight)))
        ctx.save_for_backward(x, small, *weights, *shrinks, *expands)
        ctx.scales, ctx.with_bias = scales, [bias is not None for bias in biases]
        return tuple(outputs)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, small, *flat = ctx.saved_tensors
        count = len(ctx.scales)
        weights, shrinks, expands = (flat[i * count : (i + 1) * count] for i in range(3))
        ranks = [len(a) for a in shrinks]
        rows, dys = matrix(x), [matrix(grad) for grad in grads]
        needs = [ctx.needs_input_grad[2 + 4 * i : 6 + 4 * i] for i in range(count)]
        d_small = torch.cat(
            [grad_small(dy, b, s) for dy, b, s in zip(dys, expands, ctx.scales, strict=True)], dim=1
        )  # (M, sum of ranks)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = dys[0] @ weights[0]
            for dy, weight in zip(dys[1:], weights[1:], strict=True):
                dx.addmm_(dy, weight)
            dx = dx.addmm_(d_small, _stacked(shrinks, x.dtype)).view(x.shape)
        das = (d_small.t() @ rows).split(ranks)
        out: list[Tensor | None] = []
        for dy, part, a, b, da, need in zip(
            dys, small.split(ranks, dim=1), shrinks, expands, das, needs, strict=True
        ):
            out += [
                dy.t() @ rows if need[0] else None,
                dy.sum(0) if need[1] else None,
                as_type(da, a.dtype) if need[2] else None,
                grad_b(dy, part, b) if need[3] else None,
            ]
        return (dx, None, *out)
