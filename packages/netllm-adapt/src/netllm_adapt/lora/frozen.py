"""Products with weights that may be frozen, each in the fastest way that is allowed.

torch lays a bfloat16 weight out anew at every product, and leaves float32 to another library, which
takes twice the time on some processors. Here a frozen parameter on the CPU is copied once into
oneDNN's layout for each pass, or into int8, and the copy is held as long as the parameter lives and
stays as it is. A long pass, whose activations need the memory, holds no layout. No layout changes
a result: float32 weights are laid out again where none is held, and for bfloat16 ones torch
computes the same (bit by bit where it was tried, on AVX512).

In int8, for training on processors that multiply such fast, both factors are rounded: each row of
what passes, and each output of the weight (for gradients, each input), to 255 steps of its own
size; sums are exact, results come in the dtype of what passes. The low-rank matrices, their
gradients and everything between the products stay as they are.

Source: SwitchBack (Wortsman et al., NeurIPS 2023), which also takes int8 for the outputs and the
gradients of inputs, and not for those of weights: here weights have none. Scales by rows and
columns, as in LLM.int8 (Dettmers et al., NeurIPS 2022), section 2.1.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

_STEPS = 127
_in_int8_now: ContextVar[bool] = ContextVar("netllm_int8_products", default=False)
_MOST_ROWS = 2048
"""Rows of the longest pass that holds the layouts it made."""
_MOST_BYTES = 2**31
"""Layouts take at most so much memory."""


class Rounded(NamedTuple):
    """A matrix in 8 bits: ``numbers·scale``."""

    numbers: Int8[Tensor, "row width"]
    scale: Float[Tensor, "row 1"]


class _Copies(NamedTuple):
    """What was made of a weight."""

    state: tuple[int, int, int]
    """Of the weight then."""
    storage: StorageWeakRef
    """Where it lay: as long as this is referred to, no other storage has its address."""
    layouts: dict[bool, Tensor]
    """Of the weight, and of its transposed."""
    int8: dict[bool, Rounded]


_copies: Any = WeakTensorKeyDictionary()


def forget(weight: Tensor) -> None:
    """Drop the copies of a frozen weight on the CPU: its layouts and those in int8.

    Call it after a change in place that torch does not count, such as ``weight.data.mul_(2)``.
    Other changes, and new data (``weight.data = …``, ``module.to(…)``), are seen without.
    """
    _copies.pop(weight, None)


def _copies_of(weight: Tensor) -> _Copies:
    """The weight's copies, none of them of an older state."""
    version = 0 if weight.is_inference() else weight._version
    storage = weight.untyped_storage()
    state = storage._cdata, weight.data_ptr(), version
    copies: _Copies | None = _copies.get(weight)
    if copies is None or copies.state != state:
        copies = _copies[weight] = _Copies(state, StorageWeakRef(storage), {}, {})
    return copies


def _is_frozen(weight: Tensor) -> bool:
    """Whether copies of a weight may be held: of a parameter on the CPU that does not learn."""
    return (
        isinstance(weight, nn.Parameter)
        and not weight.requires_grad
        and weight.device.type == "cpu"
    )


def linears(
    x: Float[Tensor, "row inputs"],
    weights: Sequence[Float[Tensor, "_ inputs"]],
    biases: Sequence[Tensor | None],
    *,
    adapted: Sequence[bool],
) -> list[Float[Tensor, "row _"]]:
    """``x·Wᵀ + bias`` by each of some layers; without autograd.

    Args:
        x: what passes; for int8 it is rounded once for all layers.
        weights: of the layers.
        biases: of the layers.
        adapted: which have low-rank matrices. In bfloat16 a layout gains little, for the weight's
            memory again: too much for all layers of a model.
    """
    numbers: Rounded | None = None
    products = []
    for weight, bias, has_matrices in zip(weights, biases, adapted, strict=True):
        if (small := _in_int8(x, weight, transposed=False)) is not None:
            numbers = rounded(x) if numbers is None else numbers
            products.append(int8_linear(numbers, small, bias, x.dtype))
            continue
        layout = _layout_for(x, weight, adapted=has_matrices, transposed=False)
        if layout is None:
            products.append(F.linear(x, weight, bias))
        else:
            products.append(onednn_linear(x, layout, bias))
    return products


def transposed_linear(
    dy: Float[Tensor, "row outputs"],
    weight: Float[Tensor, "outputs inputs"],
    plus: Float[Tensor, "row inputs"] | None = None,
    *,
    adapted: bool = True,
) -> Float[Tensor, "row inputs"]:
    """``dY·W``, and `plus` if there is one; without autograd. See `linears`."""
    if (small := _in_int8(dy, weight, transposed=True)) is not None:
        return int8_linear(rounded(dy), small, plus, dy.dtype)
    layout = _layout_for(dy, weight, adapted=adapted, transposed=True)
    if layout is None:
        return dy @ weight if plus is None else torch.addmm(plus, dy, weight)
    if plus is None:
        return onednn_linear(dy, layout, None)
    return onednn_linear_with(dy, plus, layout, None, "add")


def _in_int8(x: Tensor, weight: Tensor, *, transposed: bool) -> Rounded | None:
    """The weight, or its transposed, for a product of ``x`` in int8; None if it is not for such."""
    if not (_in_int8_now.get() and _is_frozen(weight) and x.dtype == weight.dtype):
        return None
    copies = _copies_of(weight).int8
    if transposed not in copies:
        whole = weight.detach()
        copies[transposed] = rounded(whole.t().contiguous() if transposed else whole)
    return copies[transposed]


def _layout_for(x: Tensor, weight: Tensor, *, adapted: bool, transposed: bool) -> Tensor | None:
    """How a product of ``x`` is to read a frozen weight, or its transposed; None if as it is."""
    wide, short = weight.dtype == torch.float32, len(x) <= _MOST_ROWS
    if not (_is_frozen(weight) and has_onednn(weight.dtype) and x.dtype == weight.dtype):
        return None
    if not (wide or (adapted and short)):
        return None
    layouts = _copies_of(weight).layouts
    if (layout := layouts.get(transposed)) is not None:
        return layout
    hold = short and _layout_bytes() + weight.nbytes <= _MOST_BYTES
    if not (hold or wide):
        return None
    layout = onednn_weight(weight.t().contiguous() if transposed else weight)
    if hold:
        layouts[transposed] = layout
    return layout


def _layout_bytes() -> int:
    return sum(weight.nbytes * len(copies.layouts) for weight, copies in _copies.items())


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Whether this machine's torch can lay weights of this dtype out for oneDNN."""
    ops: Any = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(ops, "_reorder_linear_weight")):
        return False
    if dtype == torch.bfloat16:
        return bool(ops._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def onednn_weight(weight: Float[Tensor, "outputs inputs"]) -> Tensor:
    """A copy of the weight as oneDNN reads it, opaque to most of torch."""
    layout: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return layout


def onednn_linear(x: Tensor, layout: Tensor, bias: Tensor | None, then: str = "none") -> Tensor:
    """``x·Wᵀ + bias``, and of that what `then` says, such as "swish"."""
    if bias is not None:
        bias = bias.contiguous()  # oneDNN reads it so, whatever its strides
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, layout, bias, then, [], "")
    return y


def onednn_linear_with(
    x: Tensor, other: Tensor, layout: Tensor, bias: Tensor | None, what: str
) -> Tensor:
    """``x·Wᵀ + bias``, to which `other` is joined by `what`, "add" or "mul", with one rounding."""
    if bias is not None:
        bias = bias.contiguous()
    y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, layout, bias, what)
    return y


@contextmanager
def int8_products() -> Iterator[None]:
    """Compute products with frozen weights in int8 in this context, both passes.

    Two rounded copies of each weight, a byte per number, are held as long as the weight lives.

    Raises:
        ValueError: If this processor has no fast ones.
    """
    check_int8()
    token = _in_int8_now.set(True)
    try:
        yield
    finally:
        _in_int8_now.reset(token)


def has_int8() -> bool:
    """Whether this processor multiplies int8 faster than bfloat16, and torch lets it."""
    return torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()


def check_int8(device: str = "cpu") -> None:
    """Raise unless a device multiplies int8 faster than bfloat16 here.

    Raises:
        ValueError: If not.
    """
    if device != "cpu":
        raise ValueError(f"Products in int8 are for CPUs, got {device!r}. Leave them out.")
    if not has_int8():
        raise ValueError(
            "Products in int8 need a processor with AVX512-VNNI and torch with oneDNN; this one "
            f"has {torch.backends.cpu.get_cpu_capability()} alone. Leave them out."
        )


def rounded(x: Float[Tensor, "row width"]) -> Rounded:
    """Each row in steps of its largest number's 127th."""
    wide = x.to(torch.float32, copy=True)
    # In half the time of absolute values, which take memory of their own.
    scale = torch.maximum(wide.amax(1, keepdim=True), wide.amin(1, keepdim=True).neg_())
    scale = scale.div_(_STEPS).clamp_(min=torch.finfo(torch.float32).tiny)
    return Rounded(wide.mul_(1 / scale).round_().to(torch.int8), scale)


def int8_linear(
    x: Rounded, weight: Rounded, plus: Tensor | None, dtype: torch.dtype
) -> Float[Tensor, "row outputs"]:
    """``x·Wᵀ``, and `plus` if there is one."""
    y = torch._int_mm(x.numbers, weight.numbers.t()).float()
    y.mul_(x.scale).mul_(weight.scale[:, 0])
    return (y if plus is None else y.add_(plus)).to(dtype)
