"""The operation over a group of layers, tied to autograd and compilers; its back end is chosen.

``torch_backend`` and ``triton_backend`` compute it; neither knows of autograd. torch's compilers
trace the function down to ``netllm::lora_linear``, which is opaque to them: its back end is chosen
when it runs. Such an operation has a cost of its own at every call, which small layers on CPU would
feel, so eager code calls the back ends directly.

Source: PyTorch, "Custom Python Operators": functional operators with a fake implementation that
gives shapes and dtypes.
"""

import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import Any

import torch
from torch import Tensor, library
from torch.autograd.function import once_differentiable

from netllm_adapt.lora import torch_backend, triton_backend
from netllm_adapt.lora.layer_group import Matrices, Part

_log = logging.getLogger(__name__)
_BACKENDS: dict[str, Any] = {"torch": torch_backend, "triton": triton_backend}
_noted: set[tuple[object, ...]] = set()
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
    return "triton" if triton_backend.covers(x, weight, a) else "torch"


def _known(name: str) -> str:
    if name not in _BACKENDS:
        raise ValueError(f"The back end must be one of {', '.join(_BACKENDS)}, got {name!r}.")
    return name


def _backend_for(x: Tensor, matrices: Matrices, parts: Sequence[Part]) -> Any:
    """Triton's where it serves every part, else torch's; each new choice is logged once."""
    name = "torch"
    for part, a in zip(parts, matrices.a, strict=True):
        name = chosen_backend(x, matrices.weights[part.layer], a)
        if name == "torch":
            break
    if name == "triton" and not triton_backend.takes(parts):
        name = "torch"
    _note(name, x.dtype, x.device.type)
    return _BACKENDS[name]


def _note(*choice: object) -> None:
    if choice not in _noted:  # a set, since compilers do not trace `functools.cache`
        _noted.add(choice)
        _log.info("lora_linear: back end %r serves %s on %s.", *choice)


def compute(
    x: Tensor,
    biases: Sequence[Tensor | None],
    matrices: Matrices,
    parts: Sequence[Part],
    seeds: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """The output of every layer, of arguments that were checked.

    Part i has the matrices ``a[i]`` and ``b[i]``; a layer without a part is frozen. ``seeds`` are
    those of the parts' dropout, drawn from torch's global CPU stream if None.
    """
    if seeds is None and (drops := [part for part in parts if part.dropout]):
        seeds = torch.randint(2**62, (len(drops),))
    if not torch.is_grad_enabled() and not _is_compiled(parts):
        parts, backend = _seeded(parts, seeds), _backend_for(x, matrices, parts)
        return tuple(backend.forward(x, biases, matrices, parts)[0])
    outputs: tuple[Tensor, ...] = _LoraLinear.apply(  # type: ignore[no-untyped-call, unused-ignore]
        x, seeds, tuple(parts), *biases, *chain(*matrices)
    )
    return outputs


def _is_compiled(parts: Sequence[Part]) -> bool:
    """Whether a compiler traces this; with rows, which depend on data, it runs eager code."""
    return torch.compiler.is_compiling() and all(part.rows is None for part in parts)


def _seeded(parts: Sequence[Part], seeds: Tensor | None) -> Sequence[Part]:
    """The parts with their seeds, one for each that drops out."""
    if seeds is None:
        return parts
    numbers = iter(seeds.tolist())
    return [part._replace(seed=next(numbers)) if part.dropout else part for part in parts]


def _split(flat: Sequence[Any], parts: Sequence[Part]) -> tuple[Sequence[Any], Matrices]:
    """The biases and the matrices of a group."""
    end = len(flat) - len(parts)
    start = end - len(parts)
    return flat[: start // 2], Matrices(flat[start // 2 : start], flat[start:end], flat[end:])


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, seeds: Tensor | None, parts: Sequence[Part], *flat: Any
    ) -> tuple[Tensor, ...]:
        biases, matrices = _split(flat, parts)
        layers = len(biases)
        if _is_compiled(parts):
            outputs = lora_linear_op(x, flat, *_described(parts), seeds)
            outputs, smalls = outputs[:layers], outputs[layers:]
        else:
            ctx.set_materialize_grads(False)
            seeded = _seeded(parts, seeds)
            ctx.backend = _backend_for(x, matrices, parts)
            outputs, smalls = ctx.backend.forward(x, biases, matrices, seeded)
        # For the gradients of frozen layers the shape of x is enough.
        learns = parts or any(ctx.needs_input_grad[3 + layers : 3 + 2 * layers])
        held = x if learns else x.new_empty(1).expand(x.shape)
        ctx.save_for_backward(held, seeds, *flat, *smalls)
        ctx.parts, ctx.tensors = parts, len(flat)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        # The guard has a cost, and matters only where a graph of the gradients is made.
        guarded = torch.is_grad_enabled() and not _is_compiled(ctx.parts)
        return (_once if guarded else _gradients)(ctx, *grads)


def _gradients(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
    x, seeds, *saved = ctx.saved_tensors
    flat, smalls, parts = saved[: ctx.tensors], saved[ctx.tensors :], ctx.parts
    needs = ctx.needs_input_grad[:1] + ctx.needs_input_grad[3:]  # without seeds and parts
    if _is_compiled(parts):
        found = lora_linear_backward_op(grads, smalls, needs, x, flat, *_described(parts), seeds)
        dx, *others = [value if need else None for value, need in zip(found, needs, strict=True)]
    else:
        _, matrices = _split(flat, parts)
        seeded = _seeded(parts, seeds)
        dx, *others = ctx.backend.backward(grads, x, matrices, seeded, smalls, needs)
    return (dx, None, None, *others)


_once = once_differentiable(_gradients)


# As torch's compilers see it: parts lie side by side, without rows, which depend on data.
_GROUP = (
    "Tensor x, Tensor?[] tensors, int[] layers, float[] factors, float[] dropouts, Tensor? seeds"
)


def _described(parts: Sequence[Part]) -> tuple[list[int], list[float], list[float]]:
    return [p.layer for p in parts], [p.factor for p in parts], [p.dropout for p in parts]


def _group(
    x: Tensor, tensors: Sequence[Any], *described: Any
) -> tuple[Any, Sequence[Any], Matrices, Sequence[Part]]:
    """The back end, and what it is given."""
    *columns, seeds = described
    parts = [Part(*fields) for fields in zip(*columns, strict=True)]
    biases, matrices = _split(tensors, parts)
    return _backend_for(x, matrices, parts), biases, matrices, _seeded(parts, seeds)


@library.custom_op("netllm::lora_linear", mutates_args=(), schema=f"({_GROUP}) -> Tensor[]")
def lora_linear_op(x: Tensor, tensors: Any, *described: Any) -> list[Tensor]:
    """The outputs of every layer, and S of every part for the backward pass."""
    backend, *group = _group(x, tensors, *described)
    outputs, smalls = backend.forward(x, *group)
    # Each S may be a part of one matrix, which results of an operation must not be.
    return [*(y.contiguous() for y in outputs), *(small.clone() for small in smalls)]


@lora_linear_op.register_fake
def _(x: Tensor, tensors: Any, layers: Any, *_: Any) -> list[Tensor]:
    matrices, rows = _split(tensors, layers)[1], x.shape[:-1]
    outputs = [x.new_empty(*rows, len(weight)) for weight in matrices.weights]
    return [*outputs, *(x.new_empty(math.prod(rows), len(a)) for a in matrices.a)]


@library.custom_op(
    "netllm::lora_linear_backward",
    mutates_args=(),
    schema=f"(Tensor[] grads, Tensor[] smalls, bool[] needs, {_GROUP}) -> Tensor[]",
)
def lora_linear_backward_op(
    grads: Any, smalls: Any, needs: Any, x: Tensor, tensors: Any, *described: Any
) -> list[Tensor]:
    """The gradients of x, the biases and the matrices; empty tensors for those not needed."""
    backend, _, matrices, parts = _group(x, tensors, *described)
    found = backend.backward(grads, x, matrices, parts, smalls, needs)
    pairs = zip(found, needs, strict=True)
    return [value.clone() if need else x.new_empty(0) for value, need in pairs]


@lora_linear_backward_op.register_fake
def _(_: Any, __: Any, needs: Any, x: Tensor, tensors: Any, *___: Any) -> list[Tensor]:
    pairs = zip(needs, [x, *tensors], strict=True)
    return [t.new_empty(t.shape) if need else x.new_empty(0) for need, t in pairs]
