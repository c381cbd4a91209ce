"""What the operation takes: its arguments by name, checked, and in autocast's dtype."""

from typing import Any, NamedTuple

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
    """What one pair of low-rank matrices does in a group of layers that read the same input."""

    layer: int
    """The number of its layer."""
    factor: float
    """Of ``x̂·Aᵀ``: the scale by the share that is kept."""
    dropout: float = 0.0
    seed: int | None = None
    """Of the dropout mask."""
    rows: Rows | None = None
    """Along the first axis of the input; all if None."""


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on where ``x`` lies; of meta tensors it knows nothing."""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def autocast(
    x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The three in autocast's dtype where it is on, as it would hand them to a linear layer.

    It leaves double precision alone.
    """
    if not autocasts(x):
        return x, weight, bias
    dtype = torch.get_autocast_dtype(x.device.type)

    def cast(tensor: Tensor) -> Tensor:
        return tensor if tensor.dtype == torch.float64 else tensor.to(dtype)

    return cast(x), cast(weight), None if bias is None else cast(bias)


def check(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, dropout: float, layer: str
) -> None:
    """Raise unless the arguments of ``lora_linear`` fit each other.

    Raises:
        ValueError: Naming ``layer``, what must hold and what came.
    """
    if not weight.ndim == a.ndim == b.ndim == 2:
        raise ValueError(
            f"{layer}: the weight, A and B must be matrices, got shapes {_shape(weight)}, "
            f"{_shape(a)} and {_shape(b)}."
        )
    outputs, inputs = weight.shape
    rank = a.shape[0]
    if not 0 <= dropout < 1:
        raise ValueError(f"{layer}: `dropout` must be at least 0 and below 1, got {dropout}.")
    if not 1 <= rank <= min(outputs, inputs):
        raise ValueError(
            f"{layer}: the rank must be from 1 to {min(outputs, inputs)}, the layer's smaller "
            f"side, got {rank}."
        )
    if a.shape[1] != inputs or b.shape[0] != outputs or b.shape[1] != rank:
        raise ValueError(
            f"{layer}: A and B must be of shapes {(rank, inputs)} and {(outputs, rank)}, got "
            f"{_shape(a)} and {_shape(b)}. Was the adapter made for another model?"
        )
    check_input(x, weight, bias, layer)
    if not (x.is_floating_point() and a.is_floating_point() and b.is_floating_point()):
        raise ValueError(
            f"{layer}: all tensors must be of floating point, got {x.dtype}, {a.dtype}, {b.dtype}."
        )
    if not x.device == a.device == b.device:
        raise ValueError(
            f"{layer}: all tensors must be on one device, got x on {x.device}, the weight on "
            f"{weight.device}, A on {a.device} and B on {b.device}."
        )


def check_input(x: Tensor, weight: Tensor, bias: Tensor | None, layer: str) -> None:
    """Raise unless ``x`` may pass through a layer of this weight and bias.

    Raises:
        ValueError: Naming ``layer``, what must hold and what came.
    """
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{layer}: `x` must end with width {weight.shape[1]}, got shape {_shape(x)}."
        )
    if x.dtype != weight.dtype and not (
        autocasts(x) and torch.float64 not in (x.dtype, weight.dtype)
    ):
        raise ValueError(
            f"{layer}: `x` must have the dtype of `weight`, {weight.dtype}, got {x.dtype}. "
            "Cast it first."
        )
    if x.device != weight.device:
        raise ValueError(
            f"{layer}: all tensors must be on one device, got x on {x.device} and the weight on "
            f"{weight.device}."
        )
    if bias is None:
        return
    if bias.shape != weight.shape[:1]:
        raise ValueError(
            f"{layer}: `bias` must be of shape {_shape(weight)[:1]}, got {_shape(bias)}."
        )
    if bias.dtype != x.dtype or bias.device != weight.device:
        raise ValueError(
            f"{layer}: `bias` must have dtype and device of `weight`, {x.dtype} on "
            f"{weight.device}, got {bias.dtype} on {bias.device}."
        )


def check_ids(ids: Any, layer: str) -> None:
    """Raise unless ``ids`` are whole numbers along one axis.

    Raises:
        ValueError: Naming ``layer``, if they are not.
    """
    if not isinstance(ids, Tensor):
        got = type(ids).__name__
    elif ids.ndim != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        got = f"{ids.dtype} of shape {tuple(ids.shape)}"
    else:
        return
    raise ValueError(
        f"{layer}: `adapter_ids` must be a tensor of whole numbers, one per row, got {got}."
    )


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
