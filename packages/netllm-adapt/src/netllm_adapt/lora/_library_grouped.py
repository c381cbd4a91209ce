"""``netllm::lora_linear_grouped`` for torch's compilers, in the manner of ``_library``.

torch ties lists of tensors to autograd only if none is None: an empty tensor stands for no bias.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from netllm_adapt.lora._group import backward, forward

_LAYERS = "Tensor x, Tensor[] weights, Tensor[] biases, Tensor[] shrinks, Tensor[] expands"


@torch.library.custom_op(
    "netllm::lora_linear_grouped",
    mutates_args=(),
    schema=f"({_LAYERS}, float[] scales) -> (Tensor[], Tensor)",
)
def lora_linear_grouped_op(
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    shrinks: list[Tensor],
    expands: list[Tensor],
    scales: list[float],
) -> tuple[list[Tensor], Tensor]:
    """The outputs, and S of all layers for the backward pass."""
    given = [bias if len(bias) else None for bias in biases]
    outputs, small = forward(x, weights, given, shrinks, expands, scales)
    return [y.contiguous() for y in outputs], small.contiguous()


@lora_linear_grouped_op.register_fake
def _(
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    shrinks: list[Tensor],
    expands: list[Tensor],
    scales: list[float],
) -> tuple[list[Tensor], Tensor]:
    rows = x.shape[:-1]
    outputs = [x.new_empty(*rows, weight.shape[0]) for weight in weights]
    return outputs, x.new_empty(math.prod(rows), sum(a.shape[0] for a in shrinks))


@torch.library.custom_op(
    "netllm::lora_linear_grouped_backward",
    mutates_args=(),
    schema=f"(Tensor[] grads, {_LAYERS}, Tensor small, float[] scales, bool[] needs) -> Tensor[]",
)
def lora_linear_grouped_backward_op(
    grads: list[Tensor],
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    shrinks: list[Tensor],
    expands: list[Tensor],
    small: Tensor,
    scales: list[float],
    needs: list[bool],
) -> list[Tensor]:
    """The gradients of x, weights, biases, A and B; empty tensors for those not needed."""
    found = backward(grads, x, weights, shrinks, expands, small, scales, needs)
    # Gradients of A are parts of one matrix, which results of an operation must not be.
    of_a = slice(1 + 2 * len(weights), 1 + 3 * len(weights))
    found[of_a] = [value if value is None else value.clone() for value in found[of_a]]
    return [x.new_empty(0) if value is None else value.contiguous() for value in found]


@lora_linear_grouped_backward_op.register_fake
def _(
    grads: list[Tensor],
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    shrinks: list[Tensor],
    expands: list[Tensor],
    small: Tensor,
    scales: list[float],
    needs: list[bool],
) -> list[Tensor]:
    likes = [x, *weights, *biases, *shrinks, *expands]
    return [
        like.new_empty(like.shape) if needed else x.new_empty(0)
        for like, needed in zip(likes, needs, strict=True)
    ]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[list[Tensor], Tensor]) -> None:
    x, *lists, scales = inputs
    ctx.save_for_backward(x, output[1], *(part for parts in lists for part in parts))
    ctx.mark_non_differentiable(output[1])
    ctx.scales = scales


def _backward(ctx: Any, grads: list[Tensor], _: Any) -> tuple[Any, ...]:
    x, small, *flat = ctx.saved_tensors
    count = len(ctx.scales)
    lists = [flat[i * count : (i + 1) * count] for i in range(4)]
    of_x, *of_lists, _ = ctx.needs_input_grad
    needs = [of_x, *(need for part in of_lists for need in part)]
    found = lora_linear_grouped_backward_op(grads, x, *lists, small, ctx.scales, needs)
    asked = [value if needed else None for value, needed in zip(found, needs, strict=True)]
    return (asked[0], *(asked[1 + i * count : 1 + (i + 1) * count] for i in range(4)), None)


lora_linear_grouped_op.register_autograd(_backward, setup_context=_keep)


def traced_group(
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor | None],
    shrinks: list[Tensor],
    expands: list[Tensor],
    scales: Sequence[float],
) -> tuple[Tensor, ...]:
    """The operation as a compiler sees it."""
    given = [x.new_empty(0) if bias is None else bias for bias in biases]
    outputs = lora_linear_grouped_op(x, weights, given, shrinks, expands, list(scales))[0]
    return tuple(outputs)
