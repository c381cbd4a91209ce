"""Products with frozen weights, which oneDNN reads in a layout of its own.

torch lays a bfloat16 weight out anew at every product, and leaves float32 to another library, which
takes twice the time on some processors. Here a frozen parameter is laid out once for each pass, and
that is kept as long as it lives and stays as it is. A long pass, whose activations need the memory,
keeps nothing. What is kept changes no result: float32 weights are laid out again where they are
not, and for bfloat16 ones torch computes the same (bit by bit where it was tried, on AVX512).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

_ROWS = 2048
"""Rows of the longest pass that keeps what it laid out."""
_BYTES = 2**31
"""What is kept takes at most so much memory."""


def linear(
    x: Float[Tensor, "row inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Tensor | None,
    *,
    adapted: bool = True,
) -> Float[Tensor, "row outputs"]:
    """``x·Wᵀ + bias``; without autograd.

    Args:
        x: what passes.
        weight: of a layer.
        bias: of the layer.
        adapted: whether it has low-rank matrices. In bfloat16 a layout gains little, for the
            weight's memory again: too much for all layers of a model.
    """
    laid = _layout(weight, x, adapted, turned=False)
    return F.linear(x, weight, bias) if laid is None else product(x, laid, bias)


def turned_linear(
    dy: Float[Tensor, "row outputs"],
    weight: Float[Tensor, "outputs inputs"],
    plus: Float[Tensor, "row inputs"] | None = None,
    *,
    adapted: bool = True,
) -> Float[Tensor, "row inputs"]:
    """``dY·W``, and `plus` if there is one; without autograd. See `linear`."""
    laid = _layout(weight, dy, adapted, turned=True)
    if laid is None:
        return dy @ weight if plus is None else torch.addmm(plus, dy, weight)
    return product(dy, laid, None) if plus is None else product_with(dy, plus, laid, None, "add")


def product(x: Tensor, laid: Tensor, bias: Tensor | None) -> Tensor:
    """``x·Wᵀ + bias`` with the layout of W."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, laid, bias, "none", [], "")
    return y


def product_with(x: Tensor, other: Tensor, laid: Tensor, bias: Tensor | None, what: str) -> Tensor:
    """``x·Wᵀ + bias``, to which `other` is joined by `what`, "add" or "mul", with one rounding."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, laid, bias, what)
    return y


def lay_out(weight: Float[Tensor, "outputs inputs"]) -> Tensor:
    """A copy of the weight as oneDNN reads it, opaque to most of torch."""
    laid: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return laid


@cache
def can_lay_out(dtype: torch.dtype) -> bool:
    """Whether this machine's torch can."""
    ops: Any = torch.ops.mkldnn
    if not (torch.backends.mkldnn.is_available() and hasattr(ops, "_reorder_linear_weight")):
        return False
    if dtype == torch.bfloat16:
        return bool(ops._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def forget(weight: Tensor) -> None:
    """Drop the layouts of a weight that changes in a way that torch does not count (`.data`)."""
    for part in _kept.values():
        part.pop(weight, None)


class _Kept(NamedTuple):
    state: tuple[int, int]
    laid: Tensor


_kept: dict[bool, Any] = {turned: WeakTensorKeyDictionary() for turned in (False, True)}
"""Of parameters, and of their transposed."""


def _layout(weight: Tensor, x: Tensor, adapted: bool, *, turned: bool) -> Tensor | None:
    """How the product of ``x`` is to read a frozen weight; None if as it is."""
    wide, short = weight.dtype == torch.float32, len(x) <= _ROWS
    if not (_is_frozen(weight) and x.dtype == weight.dtype and (wide or (adapted and short))):
        return None
    state = weight.data_ptr(), 0 if weight.is_inference() else weight._version
    kept: _Kept | None = _kept[turned].get(weight)
    if kept is not None and kept.state == state:
        return kept.laid
    _kept[turned].pop(weight, None)
    keep = short and _kept_bytes() + weight.nbytes <= _BYTES
    if not (keep or wide):
        return None
    laid = lay_out(weight.t().contiguous() if turned else weight)
    if keep:
        _kept[turned][weight] = _Kept(state, laid)
    return laid


def _is_frozen(weight: Tensor) -> bool:
    return (
        isinstance(weight, nn.Parameter)
        and not weight.requires_grad
        and weight.device.type == "cpu"
        and can_lay_out(weight.dtype)
    )


def _kept_bytes() -> int:
    return sum(weight.nbytes for part in _kept.values() for weight in part)
