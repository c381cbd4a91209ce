"""Frozen weights in fewer bits: made whole for each pass, kept whole between passes by none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, eq=False)
class Packed:
    """A frozen weight that takes the place of a tensor in ``lora_linear``; it has no gradient."""

    unpack: Callable[[torch.dtype], Tensor]
    """The whole weight, (outputs, inputs), in the dtype of x: called once by every pass."""

    shape: tuple[int, int]
    """Outputs and inputs."""

    device: torch.device
    """Of the whole weight."""

    ndim: ClassVar[int] = 2


Weight = Tensor | Packed


def whole(weight: Weight, dtype: torch.dtype) -> Tensor:
    """The weight as a tensor; ``dtype`` is that of what passes through."""
    return weight if isinstance(weight, Tensor) else weight.unpack(dtype)


def packed_linear(x: Tensor, weight: Packed, bias: Tensor | None) -> Tensor:
    """``x·Wᵀ + bias``, in the dtype of ``x``."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return F.linear(x, weight.unpack(x.dtype), bias)
    y: Tensor = _PackedLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call, unused-ignore]
    return y


class _PackedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Packed, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return F.linear(x, weight.unpack(x.dtype), bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        for_x, _, for_bias = ctx.needs_input_grad
        return (
            grad @ ctx.weight.unpack(grad.dtype) if for_x else None,
            None,
            grad.sum_to_size(grad.shape[-1]) if for_bias else None,
        )
