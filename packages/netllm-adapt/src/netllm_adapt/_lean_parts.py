"""The two kinds of learned operation in the lean pass: matrix products and RMS norms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from netllm_adapt.lora._laid import can_lay_out, lay_out, product, product_with


class Product:
    """``x·Wᵀ + bias`` for rows ``x``, with the weights packed by oneDNN where it can.

    torch packs a plain weight anew at every call, which for a few rows costs as much as the
    product. Both forms round once, after the bias and what is added or multiplied.
    """

    def __init__(self, weight: Float[Tensor, "out in"], bias: Tensor | None) -> None:
        self._bias = None if bias is None else bias.detach().contiguous()  # as oneDNN reads it
        self._packed = can_lay_out(weight.dtype)
        self._weight = lay_out(weight) if self._packed else weight

    def __call__(self, x: Float[Tensor, "row in"]) -> Float[Tensor, "row out"]:
        """The product itself."""
        if not self._packed:
            return F.linear(x, self._weight, self._bias)
        return product(x, self._weight, self._bias)

    def silu(self, x: Float[Tensor, "row in"]) -> Float[Tensor, "row out"]:
        """The SiLU of the product."""
        if not self._packed:
            return F.silu(self(x))
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "swish", [], "")
        return y

    def times(self, x: Float[Tensor, "row in"], other: Tensor) -> Float[Tensor, "row out"]:
        """The product times `other`, element by element."""
        if not self._packed:
            return self(x) * other
        return product_with(x, other, self._weight, self._bias, "mul")

    def plus(self, x: Float[Tensor, "row in"], other: Tensor) -> Float[Tensor, "row out"]:
        """The product plus `other`."""
        if not self._packed:
            return self(x) + other
        return product_with(x, other, self._weight, self._bias, "add")


class Norm:
    """RMS norm, computed as the layer norm of (x, -x), whose mean is zero.

    torch has one kernel for layer norm and a chain of eight for RMS norm. Computes in fp32 and
    rounds once.
    """

    def __init__(self, weight: Float[Tensor, "width"], eps: float) -> None:
        self._weight = torch.stack([weight.detach(), torch.zeros_like(weight)])
        self._signs = torch.tensor([[1.0], [-1.0]], dtype=weight.dtype, device=weight.device)
        self._eps = eps

    def __call__(self, x: Float[Tensor, "row width"]) -> Float[Tensor, "row width"]:
        """Every row over the root of its mean square, times the weight."""
        pairs = x[:, None] * self._signs
        normed = F.layer_norm(pairs, self._weight.shape, self._weight, None, self._eps)
        return normed[:, 0].contiguous()
