"""Frozen weights in oneDNN's own layout.

torch lays a bfloat16 weight out anew at every product, and leaves float32 to another library, which
takes twice the time on some processors. Here a frozen parameter is laid out once for each pass, and
that is kept as long as it lives and stays as it is. A long pass, whose activations need the memory,
keeps nothing. What is kept changes no result: float32 weights are laid out again where they are
not, and for bfloat16 ones torch computes the same (bit by bit where it was tried, on AVX512).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from netllm_adapt.lora._kept import Kept, is_frozen

_ROWS = 2048
"""Rows of the longest pass that keeps what it laid out."""
_BYTES = 2**31
"""What is kept takes at most so much memory."""

_kept: dict[bool, Kept[Tensor]] = {turned: Kept() for turned in (False, True)}
"""Of parameters, and of their transposed."""


def product(x: Tensor, laid: Tensor, bias: Tensor | None) -> Tensor:
    """``x·Wᵀ + bias`` with the layout of W."""
    if bias is not None:
        bias = bias.contiguous()  # oneDNN reads it so, whatever its strides
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, laid, bias, "none", [], "")
    return y


def product_with(x: Tensor, other: Tensor, laid: Tensor, bias: Tensor | None, what: str) -> Tensor:
    """``x·Wᵀ + bias``, to which `other` is joined by `what`, "add" or "mul", with one rounding."""
    if bias is not None:
        bias = bias.contiguous()
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


def layout_for(
    x: Float[Tensor, "row _"],
    weight: Float[Tensor, "outputs inputs"],
    *,
    adapted: bool,
    turned: bool,
) -> Tensor | None:
    """How a product of ``x`` is to read a frozen weight, or its transposed; None if as it is.

    Args:
        x: what passes.
        weight: of a layer.
        adapted: whether it has low-rank matrices. In bfloat16 a layout gains little, for the
            weight's memory again: too much for all layers of a model.
        turned: for the product with the transposed.
    """
    wide, short = weight.dtype == torch.float32, len(x) <= _ROWS
    if not (is_frozen(weight) and can_lay_out(weight.dtype) and x.dtype == weight.dtype):
        return None
    if not (wide or (adapted and short)):
        return None
    if (found := _kept[turned].get(weight)) is not None:
        return found
    keep = short and _kept_bytes() + weight.nbytes <= _BYTES
    if not (keep or wide):
        return None
    laid = lay_out(weight.t().contiguous() if turned else weight)
    return _kept[turned].keep(weight, laid) if keep else laid


def _kept_bytes() -> int:
    return sum(part.nbytes for part in _kept.values())
