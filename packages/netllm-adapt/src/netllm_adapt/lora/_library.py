"""``netllm::lora_linear`` for torch's compilers: opaque to them, chosen by back end when it runs.

Source: PyTorch, "Custom Python Operators": functional operators with a fake implementation that
gives shapes and dtypes, and an operator of its own for the backward pass.
"""

import math
from typing import Any

import torch
from torch import Tensor

from netllm_adapt.lora._backends import backend_for

_TENSORS = "Tensor x, Tensor weight, Tensor? bias, Tensor a, Tensor b"
_REST = "float scale, float dropout, Tensor? seed"


@torch.library.custom_op(
    "netllm::lora_linear",
    mutates_args=(),
    schema=f"({_TENSORS}, {_REST}) -> (Tensor, Tensor)",
)
def lora_linear_op(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float,
    dropout: float,
    seed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The output, and S = x̂·Aᵀ for the backward pass; ``seed`` is an integer in a tensor."""
    backend = backend_for(x, weight, a)
    y, small = backend.forward(x, weight, bias, a, b, scale, dropout, _number(seed))
    return y.contiguous(), small.contiguous()


@lora_linear_op.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float,
    dropout: float,
    seed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    rows = x.shape[:-1]
    return x.new_empty(*rows, weight.shape[0]), x.new_empty(math.prod(rows), a.shape[0])


@torch.library.custom_op(
    "netllm::lora_linear_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor x, Tensor weight, Tensor? bias, Tensor a, Tensor b, Tensor small, "
    f"{_REST}, bool[] needs) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def lora_linear_backward_op(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    small: Tensor,
    scale: float,
    dropout: float,
    seed: Tensor | None,
    needs: list[bool],
) -> tuple[Tensor, ...]:
    """The gradients of x, weight, bias, a and b; empty tensors for those not needed."""
    backend = backend_for(x, weight, a)
    grads = backend.backward(grad, x, weight, a, b, small, scale, dropout, _number(seed), needs)
    return tuple(x.new_empty(0) if value is None else value.contiguous() for value in grads)


@lora_linear_backward_op.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    small: Tensor,
    scale: float,
    dropout: float,
    seed: Tensor | None,
    needs: list[bool],
) -> tuple[Tensor, ...]:
    likes = (x, weight, grad.new_empty(grad.shape[-1]), a, b)
    return tuple(
        like.new_empty(like.shape) if needed else x.new_empty(0)
        for like, needed in zip(likes, needs, strict=True)
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, a, b, scale, dropout, seed = inputs
    ctx.save_for_backward(x, weight, bias, a, b, output[1], seed)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.rest = scale, dropout


def _backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    *tensors, seed = ctx.saved_tensors
    needs = list(ctx.needs_input_grad[:5])
    grads = lora_linear_backward_op(grad, *tensors, *ctx.rest, seed, needs)
    asked = (value if needed else None for value, needed in zip(grads, needs, strict=True))
    return (*asked, None, None, None)


lora_linear_op.register_autograd(_backward, setup_context=_keep)


def traced(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float,
    dropout: float,
    seed: int | None,
) -> Tensor:
    """The operation as a compiler sees it; a seed is drawn inside the graph."""
    number = None
    if dropout:
        number = torch.randint(2**62, ()) if seed is None else torch.tensor(seed)
    result: Tensor = lora_linear_op(x, weight, bias, a, b, scale, dropout, number)[0]
    return result


def _number(seed: Tensor | None) -> int | None:
    return None if seed is None else int(seed)
