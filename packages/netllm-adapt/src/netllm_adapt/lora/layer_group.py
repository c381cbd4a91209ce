"""A group of layers that read the same input, and the low-rank matrices that some of them have.

A single layer is a group of one. A batch whose rows use different adapters is one layer with
several parts, each of which has its rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Rows = slice | Tensor
"""Rows of a batch: a slice where they lie together, else their numbers."""


class Adapter(NamedTuple):
    """One adapter's matrices at a layer."""

    a: Float[Tensor, "rank inputs"]
    b: Float[Tensor, "outputs rank"]
    scale: float
    dropout: float = 0.0


class Part(NamedTuple):
    """What one pair of low-rank matrices does in the group."""

    layer: int
    """The number of its layer."""
    factor: float
    """Of ``x̂·Aᵀ``: the scale by the share that is kept."""
    dropout: float = 0.0
    rows: Rows | None = None
    """Along the first axis of the input; all if None."""
    seed: int = 0
    """Of the dropout mask."""


class Matrices(NamedTuple):
    """The matrices of a group: one weight for each layer, one A and one B for each part."""

    weights: Sequence[Tensor]
    a: Sequence[Tensor]
    b: Sequence[Tensor]


def check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    layer: str,
    pair: tuple[Tensor, Tensor] | None = None,
    dropout: float = 0.0,
) -> None:
    """Raise unless ``x`` may pass through a layer, which may have a pair of matrices A and B.

    Raises:
        ValueError: Naming ``layer``, what must hold and what came.
    """
    shapes = [weight.shape] if pair is None else [weight.shape, pair[0].shape, pair[1].shape]
    if set(map(len, shapes)) != {2}:
        told = [tuple(shape) for shape in shapes]
        raise ValueError(f"{layer}: the weight, A and B must be matrices, got shapes {told}.")
    if pair is not None:
        _check_pair(shapes, dropout, layer)
    outputs, inputs = shapes[0]
    if x.ndim == 0 or x.shape[-1] != inputs:
        raise ValueError(f"{layer}: `x` must end with width {inputs}, got shape {tuple(x.shape)}.")
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"{layer}: `bias` must be of shape {(outputs,)}, got {tuple(bias.shape)}.")
    dtype, device = weight.dtype, weight.device
    for name, tensor in zip(("x", "bias", "A", "B"), (x, bias, *(pair or ())), strict=False):
        if tensor is None:
            continue
        fits = tensor.dtype == dtype or name in "AB" or _may_differ(tensor, weight)
        if not (fits and tensor.is_floating_point() and tensor.device == device):
            what = "lie" if name in "AB" else "have the dtype and lie"
            raise ValueError(
                f"{layer}: `{name}` must {what} on the device of `weight`, {dtype} on {device}, "
                f"and be of floating point, got {tensor.dtype} on {tensor.device}."
            )


def _check_pair(shapes: Sequence[torch.Size], dropout: float, layer: str) -> None:
    (outputs, inputs), a, b = shapes
    rank, smaller = a[0], min(outputs, inputs)
    if not 0 <= dropout < 1:
        raise ValueError(f"{layer}: `dropout` must be at least 0 and below 1, got {dropout}.")
    if not 1 <= rank <= smaller:
        raise ValueError(
            f"{layer}: the rank must be from 1 to {smaller}, the layer's smaller side, got {rank}."
        )
    if (a, b) != ((rank, inputs), (outputs, rank)):
        raise ValueError(
            f"{layer}: A and B must be of shapes {(rank, inputs)} and {(outputs, rank)}, got "
            f"{tuple(a)} and {tuple(b)}. Was the adapter made for another model?"
        )


def _may_differ(tensor: Tensor, weight: Tensor) -> bool:
    """Whether autocast will give the two one dtype."""
    return _autocasts(tensor) and torch.float64 not in (tensor.dtype, weight.dtype)


def _autocasts(x: Tensor) -> bool:
    """Whether autocast is on where ``x`` lies; of meta tensors it knows nothing."""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def autocast(
    x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The three in autocast's dtype where it is on, as it would hand them to a linear layer.

    It leaves double precision alone.
    """
    if not _autocasts(x):
        return x, weight, bias
    dtype = torch.get_autocast_dtype(x.device.type)

    def cast(tensor: Tensor) -> Tensor:
        return tensor if tensor.dtype == torch.float64 else tensor.to(dtype)

    return cast(x), cast(weight), None if bias is None else cast(bias)
