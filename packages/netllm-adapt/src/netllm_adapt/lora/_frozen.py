"""Products with weights that may be frozen, each in the fastest way that is allowed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from netllm_adapt.lora import _int8
from netllm_adapt.lora._laid import layout_for, product, product_with


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
        adapted: whether it has low-rank matrices; see `layout_for`.
    """
    return linears(x, [weight], [bias], adapted=[adapted])[0]


def linears(
    x: Float[Tensor, "row inputs"],
    weights: Sequence[Float[Tensor, "_ inputs"]],
    biases: Sequence[Tensor | None],
    *,
    adapted: Sequence[bool],
) -> list[Float[Tensor, "row _"]]:
    """``x`` by each of some layers, see `linear`; rounded once for all of them."""
    numbers: _int8.Rounded | None = None
    found = []
    for weight, bias, has_matrices in zip(weights, biases, adapted, strict=True):
        if (small := _int8.rounded_for(x, weight, turned=False)) is not None:
            numbers = _int8.rounded(x) if numbers is None else numbers
            found.append(_int8.product(numbers, small, bias, x.dtype))
            continue
        laid = layout_for(x, weight, adapted=has_matrices, turned=False)
        found.append(F.linear(x, weight, bias) if laid is None else product(x, laid, bias))
    return found


def turned_linear(
    dy: Float[Tensor, "row outputs"],
    weight: Float[Tensor, "outputs inputs"],
    plus: Float[Tensor, "row inputs"] | None = None,
    *,
    adapted: bool = True,
) -> Float[Tensor, "row inputs"]:
    """``dY·W``, and `plus` if there is one; without autograd. See `linear`."""
    if (small := _int8.rounded_for(dy, weight, turned=True)) is not None:
        return _int8.product(_int8.rounded(dy), small, plus, dy.dtype)
    laid = layout_for(dy, weight, adapted=adapted, turned=True)
    if laid is None:
        return dy @ weight if plus is None else torch.addmm(plus, dy, weight)
    return product(dy, laid, None) if plus is None else product_with(dy, plus, laid, None, "add")
