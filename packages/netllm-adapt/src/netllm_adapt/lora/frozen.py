"""Products with weights that may be frozen, each in the fastest way that is allowed.

torch lays a bfloat16 weight out anew at every product, and leaves float32 to another library, which
takes twice the time on some processors. Here a frozen parameter on the CPU is copied once into
oneDNN's layout for each pass, or into int8, and the copy is held as long as the parameter lives and
stays as it is. A long pass, whose activations need the memory, holds no layout. No layout changes
a result: float32 weights are laid out again where none is held, and for bfloat16 ones torch
computes the same (bit by bit where it was tried, on AVX512).
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

from netllm_adapt.lora.int8 import Rounded, in_int8, int8_linear, rounded

_MOST_ROWS = 2048
"""Rows of the longest pass that holds the layouts it made."""
_MOST_BYTES = 2**31
"""Layouts take at most so much memory."""


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
    if not (in_int8() and _is_frozen(weight) and x.dtype == weight.dtype):
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
