"""Several layers that read the same input, such as q, k and v: one shrink for all of them.

The input is read once for all the A, and its gradient is summed in place. Outputs and gradients
are those of ``lora_linear`` layer by layer.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from netllm_adapt.lora._check import check, check_bias, check_input
from netllm_adapt.lora._group import backward, forward
from netllm_adapt.lora._library_grouped import traced_group
from netllm_adapt.lora._op import autocast

Matrices = tuple[Float[Tensor, "_ inputs"], Float[Tensor, "_ _"]]


def lora_linear_grouped(
    x: Float[Tensor, "*batch inputs"],
    weights: Sequence[Float[Tensor, "_ inputs"]],
    biases: Sequence[Float[Tensor, " _"] | None],
    matrices: Sequence[Matrices | None],
    scales: Sequence[float],
) -> tuple[Float[Tensor, "*batch _"], ...]:
    """``lora_linear(x, weights[i], biases[i], *matrices[i], scales[i])`` for every i; no dropout.

    A layer whose ``matrices`` are None is the frozen one. Layers share the shrink where the back
    end ``torch`` serves them all; otherwise each is computed by its own.

    Raises:
        ValueError: If the sequences differ in length, or the arguments of a layer do not fit.
    """
    lengths = {len(weights), len(biases), len(matrices), len(scales)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "There must be as many weights, biases, matrices and scales, at least one, got "
            f"{len(weights)}, {len(biases)}, {len(matrices)} and {len(scales)}."
        )
    titles = [f"lora_linear_grouped, layer {i}" for i in range(len(weights))]
    return compute_group(x, weights, biases, matrices, scales, titles)


def compute_group(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    matrices: Sequence[tuple[Tensor, Tensor] | None],
    scales: Sequence[float],
    titles: Sequence[str],
) -> tuple[Tensor, ...]:
    """``lora_linear_grouped`` of layers with names for errors."""
    rows, flat = x, []
    for weight, bias, pair, title in zip(weights, biases, matrices, titles, strict=True):
        rows, weight, bias = autocast(rows, weight, bias)
        if pair is None:
            check_input(rows, weight, title)
            if bias is not None:
                check_bias(bias, rows, weight, title)
            pair = weight.new_empty(0, weight.shape[1]), weight.new_empty(len(weight), 0)
        else:
            check(rows, weight, bias, *pair, 0.0, title)
        flat.append((weight, bias, *pair))
    given: tuple[Any, ...] = (*zip(*flat, strict=True), scales)
    if torch.compiler.is_compiling():
        return traced_group(rows, *given)
    if not torch.is_grad_enabled():
        return tuple(forward(rows, *given)[0])
    result: tuple[Tensor, ...] = _Grouped.apply(  # type: ignore[no-untyped-call, unused-ignore]
        rows, scales, *(part for parts in given[:4] for part in parts)
    )
    return result


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: Sequence[float], *flat: Tensor) -> tuple[Tensor, ...]:
        count = len(scales)
        weights, biases, shrinks, expands = (flat[i * count : (i + 1) * count] for i in range(4))
        outputs, small = forward(x, weights, biases, shrinks, expands, scales)
        learns = small.shape[1] > 0 or any(ctx.needs_input_grad[2 : 2 + count])
        # For the gradients of frozen layers the shape of x is enough.
        kept = x if learns else x.new_empty(1).expand(x.shape)
        ctx.save_for_backward(kept, small, *weights, *shrinks, *expands)
        ctx.set_materialize_grads(False)
        ctx.scales = scales
        return tuple(outputs)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, small, *flat = ctx.saved_tensors
        count = len(ctx.scales)
        weights, shrinks, expands = (flat[i * count : (i + 1) * count] for i in range(3))
        needs = [ctx.needs_input_grad[0], *ctx.needs_input_grad[2:]]
        dx, *rest = backward(grads, x, weights, shrinks, expands, small, ctx.scales, needs)
        return (dx, None, *rest)
