"""The operation over a group of layers that read the same input, tied to autograd and compilers.

A single layer is a group of one; a batch whose rows use different adapters is a layer with several
pairs of matrices. ``torch_path`` and ``triton_path`` compute it; neither knows of autograd.

``netllm::lora_linear`` is the same for torch's compilers: opaque to them, its way chosen when it
runs. It has a cost of its own at every call, which small layers on CPU would feel, so eager code
ties the ways to autograd directly.

Source: PyTorch, "Custom Python Operators": functional operators with a fake implementation that
gives shapes and dtypes, and an operator of its own for the backward pass.
"""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch import Tensor, library
from torch.autograd.function import once_differentiable

from netllm_adapt.lora import torch_path, triton_path
from netllm_adapt.lora.arguments import Part
from netllm_adapt.lora.dropout import draw_seed

_log = logging.getLogger(__name__)
_WAYS: dict[str, Any] = {"torch": torch_path, "triton": triton_path}
_forced: ContextVar[str | None] = ContextVar("netllm_lora_backend", default=None)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Compute every operation of this context by ``torch`` or ``triton``.

    The variable NETLLM_LORA_BACKEND does the same for a whole process.

    Raises:
        ValueError: If there is no such back end.
    """
    token = _forced.set(_known(name))
    try:
        yield
    finally:
        _forced.reset(token)


def chosen_backend(x: Tensor, weight: Tensor, a: Tensor) -> str:
    """The back end that ``lora_linear`` takes for these inputs here and now.

    Raises:
        ValueError: If NETLLM_LORA_BACKEND names none.
    """
    name = _forced.get() or os.environ.get("NETLLM_LORA_BACKEND")
    if name:
        return _known(name)
    return "triton" if triton_path.covers(x, weight, a) else "torch"


def _known(name: str) -> str:
    if name not in _WAYS:
        raise ValueError(f"The back end must be one of {', '.join(_WAYS)}, got {name!r}.")
    return name


def _way_for(
    x: Tensor, weights: Sequence[Tensor], parts: Sequence[Part], shrinks: Sequence[Tensor]
) -> Any:
    """Triton's where it serves every part, else torch's; each new choice is logged once."""
    for part, a in zip(parts, shrinks, strict=True):
        if chosen_backend(x, weights[part.layer], a) == "torch":
            break
    else:
        if parts and triton_path.takes(parts):
            _note("triton", x.dtype, x.device.type)
            return triton_path
    _note("torch", x.dtype, x.device.type)
    return torch_path


@cache
def _note(name: str, dtype: torch.dtype, device: str) -> None:
    _log.info("lora_linear: back end %r serves %s on %s.", name, dtype, device)


def compute(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    parts: Sequence[Part],
    shrinks: Sequence[Tensor],
    expands: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """The output of every layer, of arguments that were checked.

    Part i has the matrices ``shrinks[i]`` and ``expands[i]``; a layer without a part is frozen.
    """
    if torch.compiler.is_compiling() and all(part.rows is None for part in parts):
        return _traced(x, weights, biases, parts, shrinks, expands)
    if any(part.dropout and part.seed is None for part in parts):
        parts = [part._replace(seed=draw_seed()) if part.dropout else part for part in parts]
    if not torch.is_grad_enabled():
        way = _way_for(x, weights, parts, shrinks)
        return tuple(way.forward(x, weights, biases, parts, shrinks, expands)[0])
    outputs: tuple[Tensor, ...] = _LoraLinear.apply(  # type: ignore[no-untyped-call, unused-ignore]
        x, len(weights), parts, *weights, *biases, *shrinks, *expands
    )
    return outputs


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layers: int, parts: Sequence[Part], *flat: Tensor
    ) -> tuple[Tensor, ...]:
        weights, biases = flat[:layers], flat[layers : 2 * layers]
        shrinks, expands = flat[2 * layers : -len(parts) or None], flat[len(flat) - len(parts) :]
        ctx.way = _way_for(x, weights, parts, shrinks)
        outputs, smalls = ctx.way.forward(x, weights, biases, parts, shrinks, expands)
        # For the gradients of frozen layers the shape of x is enough.
        learns = parts or any(ctx.needs_input_grad[3 : 3 + layers])
        held = x if learns else x.new_empty(1).expand(x.shape)
        ctx.save_for_backward(held, *weights, *shrinks, *expands, *smalls)
        ctx.set_materialize_grads(False)
        ctx.layers, ctx.parts = layers, parts
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        # The guard has a cost, and matters only where a graph of the gradients is made.
        return (_once if torch.is_grad_enabled() else _gradients)(ctx, *grads)


def _gradients(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    x, *flat = ctx.saved_tensors
    count = len(ctx.parts)
    weights, rest = flat[: ctx.layers], flat[ctx.layers :]
    given = ctx.parts, rest[:count], rest[count : 2 * count], rest[2 * count :]
    needs = (ctx.needs_input_grad[0], *ctx.needs_input_grad[3:])
    dx, *others = ctx.way.backward(grads, x, weights, *given, needs)
    return (dx, None, None, *others)


_once = once_differentiable(_gradients)

_TENSORS = "Tensor x, Tensor[] weights, Tensor[] biases, Tensor[] shrinks, Tensor[] expands"
_REST = "int[] layers, float[] factors, float[] dropouts, Tensor? seeds"


@library.custom_op(
    "netllm::lora_linear",
    mutates_args=(),
    schema=f"({_TENSORS}, {_REST}) -> (Tensor[], Tensor[])",
)
def lora_linear_op(
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    shrinks: list[Tensor],
    expands: list[Tensor],
    *rest: Any,
) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs, and every S for the backward pass.

    torch ties lists of tensors to autograd only if none is None: an empty tensor stands for no
    bias. ``seeds`` is a tensor of integers.
    """
    parts = _parts(*rest)
    given = [bias if len(bias) else None for bias in biases]
    way = _way_for(x, weights, parts, shrinks)
    outputs, smalls = way.forward(x, weights, given, parts, shrinks, expands)
    # Each S may be a part of one matrix, which results of an operation must not be.
    return [y.contiguous() for y in outputs], [small.clone() for small in smalls]


@lora_linear_op.register_fake
def _(
    x: Tensor, weights: list[Tensor], _: Any, shrinks: list[Tensor], *__: Any
) -> tuple[list[Tensor], list[Tensor]]:
    rows = x.shape[:-1]
    outputs = [x.new_empty(*rows, weight.shape[0]) for weight in weights]
    return outputs, [x.new_empty(math.prod(rows), a.shape[0]) for a in shrinks]


@library.custom_op(
    "netllm::lora_linear_backward",
    mutates_args=(),
    schema=f"(Tensor[] grads, {_TENSORS}, Tensor[] smalls, {_REST}, bool[] needs) -> Tensor[]",
)
def lora_linear_backward_op(
    grads: list[Tensor],
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    shrinks: list[Tensor],
    expands: list[Tensor],
    smalls: list[Tensor],
    *rest: Any,
) -> list[Tensor]:
    """The gradients of x, weights, biases, A and B; empty tensors for those not needed."""
    *described, needs = rest
    parts = _parts(*described)
    way = _way_for(x, weights, parts, shrinks)
    found = way.backward(grads, x, weights, parts, shrinks, expands, smalls, needs)
    return [x.new_empty(0) if value is None else value.clone() for value in found]


@lora_linear_backward_op.register_fake
def _(grads: list[Tensor], x: Tensor, *rest: Any) -> list[Tensor]:
    weights, biases, shrinks, expands, *_, needs = rest
    likes = [x, *weights, *biases, *shrinks, *expands]
    return [
        like.new_empty(like.shape) if needed else x.new_empty(0)
        for like, needed in zip(likes, needs, strict=True)
    ]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[list[Tensor], list[Tensor]]) -> None:
    x, *lists, layers, factors, dropouts, seeds = inputs
    smalls = output[1]
    ctx.save_for_backward(x, seeds, *(tensor for each in (*lists, smalls) for tensor in each))
    ctx.mark_non_differentiable(*smalls)
    ctx.sizes = [len(each) for each in (*lists, smalls)]
    ctx.rest = layers, factors, dropouts


def _backward(ctx: Any, grads: list[Tensor], _: Any) -> tuple[Any, ...]:
    x, seeds, *flat = ctx.saved_tensors
    *lists, smalls = _by_size(flat, ctx.sizes)
    of_x, *of_lists = ctx.needs_input_grad[:5]
    needs = [of_x, *(need for each in of_lists for need in each)]
    found = lora_linear_backward_op(grads, x, *lists, smalls, *ctx.rest, seeds, needs)
    asked = [value if needed else None for value, needed in zip(found, needs, strict=True)]
    return (asked[0], *_by_size(asked[1:], ctx.sizes[:4]), None, None, None, None)


lora_linear_op.register_autograd(_backward, setup_context=_save)


def _by_size(flat: list[Any], sizes: Sequence[int]) -> list[list[Any]]:
    rest = iter(flat)
    return [[next(rest) for _ in range(size)] for size in sizes]


def _parts(
    layers: list[int], factors: list[float], dropouts: list[float], seeds: Tensor | None
) -> list[Part]:
    numbers = [None] * len(layers) if seeds is None else seeds.tolist()
    return [Part(*each) for each in zip(layers, factors, dropouts, numbers, strict=True)]


def _traced(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    parts: Sequence[Part],
    shrinks: Sequence[Tensor],
    expands: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """The operation as a compiler sees it; seeds are drawn inside the graph."""
    seeds = None
    if any(part.dropout for part in parts):
        seeds = torch.randint(2**62, (len(parts),))
        if all(part.seed is not None for part in parts):
            seeds = torch.tensor([part.seed for part in parts])
    given = [x.new_empty(0) if bias is None else bias for bias in biases]
    rest = [part.layer for part in parts], [p.factor for p in parts], [p.dropout for p in parts]
    tensors = list(weights), given, list(shrinks), list(expands)
    return tuple(lora_linear_op(x, *tensors, *rest, seeds)[0])
