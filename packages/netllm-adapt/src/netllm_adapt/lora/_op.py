"""The operation: arguments checked, a back end chosen, tied to autograd."""

from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from netllm_adapt.lora._backends import backend_for
from netllm_adapt.lora._check import autocasts, check
from netllm_adapt.lora._dropout import draw_seed
from netllm_adapt.lora._library import traced
from netllm_adapt.lora._packed import Packed, Weight, whole

WeightT = TypeVar("WeightT", Tensor, Weight)


def lora_linear(
    x: Float[Tensor, "*batch inputs"],
    weight: Float[Tensor, "outputs inputs"] | Packed,
    bias: Float[Tensor, " outputs"] | None,
    a: Float[Tensor, "rank inputs"],
    b: Float[Tensor, "outputs rank"],
    scale: float,
    *,
    dropout: float = 0.0,
    seed: int | None = None,
) -> Float[Tensor, "*batch outputs"]:
    """The frozen layer plus its low-rank part: ``x·Wᵀ + bias + scale·(x̂·Aᵀ)·Bᵀ``, x̂ = dropout(x).

    ``a`` and ``b`` may be of another dtype than ``x``: they are cast to its, never ``x`` to
    theirs, and their gradients come in their own. Under autocast ``x``, ``weight`` and ``bias``
    are cast to its dtype first, unless they are float64. No pass uses atomics: results repeat bit
    by bit. The gradients cannot be differentiated again.

    Args:
        x: Of the dtype and on the device of ``weight``; any strides.
        weight: Of the frozen layer; it gets a gradient if it asks for one. ``Packed`` holds it in
            fewer bits: both passes make it whole, in the dtype of ``x``, and forget it.
        bias: Of the frozen layer.
        a: Shrinks to the rank.
        b: Expands from it.
        scale: Of the low-rank part: alpha / rank.
        dropout: Share of ``x`` dropped before the low-rank part only.
        seed: Of the dropout mask; drawn from torch's global stream if None.

    Raises:
        ValueError: If ``dropout`` is outside [0, 1), the rank is zero or above the layer's smaller
            side, or shapes, dtypes or devices do not fit.

    Source: LoRA (Hu et al., ICLR 2022), section 4.1.
    """
    x, weight, bias = autocast(x, weight, bias)
    check(x, weight, bias, a, b, dropout, "lora_linear")
    return compute(x, weight, bias, a, b, scale, dropout, seed)


def autocast(
    x: Tensor, weight: WeightT, bias: Tensor | None
) -> tuple[Tensor, WeightT, Tensor | None]:
    """The three in autocast's dtype where it is on, as it would hand them to a linear layer.

    It leaves double precision alone. A packed weight follows the dtype of ``x`` by itself.
    """
    if not autocasts(x):
        return x, weight, bias
    dtype = torch.get_autocast_dtype(x.device.type)

    def cast(tensor: Tensor) -> Tensor:
        return tensor if tensor.dtype == torch.float64 else tensor.to(dtype)

    if isinstance(weight, Tensor):
        weight = cast(weight)
    return cast(x), weight, None if bias is None else cast(bias)


def compute(
    x: Tensor,
    weight: Weight,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    scale: float,
    dropout: float,
    seed: int | None = None,
) -> Tensor:
    """``lora_linear`` of arguments that were checked.

    The registered operation has a cost of its own at every call, which small layers on CPU would
    feel: eager code ties the back end to autograd directly, and only a compiler sees the operation.
    """
    if torch.compiler.is_compiling():
        return traced(x, whole(weight, x.dtype), bias, a, b, scale, dropout, seed)
    if dropout and seed is None:
        seed = draw_seed()
    if not torch.is_grad_enabled():
        full = whole(weight, x.dtype)
        return backend_for(x, full, a).forward(x, full, bias, a, b, scale, dropout, seed)[0]
    result: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call, unused-ignore]
        x, weight, bias, a, b, scale, dropout, seed
    )
    return result


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Weight,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
        dropout: float,
        seed: int | None,
    ) -> Tensor:
        full = whole(weight, x.dtype)
        ctx.backend = backend_for(x, full, a)
        y, small = ctx.backend.forward(x, full, bias, a, b, scale, dropout, seed)
        ctx.packed = None if full is weight else weight
        ctx.save_for_backward(x, weight if full is weight else None, a, b, small)
        ctx.rest = scale, dropout, seed
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # The guard has a cost, and matters only where a graph of the gradients is made.
        return (_once if torch.is_grad_enabled() else _gradients)(ctx, grad)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, a, b, small = ctx.saved_tensors
    if ctx.packed is not None:
        weight = ctx.packed.unpack(x.dtype)
    needs = ctx.needs_input_grad[:5]
    grads = ctx.backend.backward(grad, x, weight, a, b, small, *ctx.rest, needs)
    return (*grads, None, None, None)


_once = once_differentiable(_gradients)
