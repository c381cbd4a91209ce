"""What the arguments of the operation must be, said with the layer's name."""

import torch
from torch import Tensor

from netllm_adapt.lora._packed import Weight


def check(
    x: Tensor,
    weight: Weight,
    bias: Tensor | None,
    a: Tensor,
    b: Tensor,
    dropout: float,
    layer: str,
) -> None:
    """Nothing, if the arguments of ``lora_linear`` fit each other.

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
    check_input(x, weight, layer)
    if not (x.is_floating_point() and a.is_floating_point() and b.is_floating_point()):
        raise ValueError(
            f"{layer}: all tensors must be of floating point, got {x.dtype}, {a.dtype}, {b.dtype}."
        )
    if not x.device == a.device == b.device:
        raise ValueError(
            f"{layer}: all tensors must be on one device, got x on {x.device}, the weight on "
            f"{weight.device}, A on {a.device} and B on {b.device}."
        )
    if bias is not None:
        check_bias(bias, x, weight, layer)


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on where ``x`` lies; of meta tensors it knows nothing."""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def check_input(x: Tensor, weight: Weight, layer: str) -> None:
    """Nothing, if ``x`` may pass through a layer of this weight.

    Raises:
        ValueError: Naming ``layer``, what must hold and what came.
    """
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{layer}: `x` must end with width {weight.shape[1]}, got shape {_shape(x)}."
        )
    if (
        isinstance(weight, Tensor)
        and x.dtype != weight.dtype
        and not (autocasts(x) and torch.float64 not in (x.dtype, weight.dtype))
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


def check_bias(bias: Tensor, x: Tensor, weight: Weight, layer: str) -> None:
    """Nothing, if ``bias`` may be added to what a layer of this weight gives.

    Raises:
        ValueError: Naming ``layer``, what must hold and what came.
    """
    if bias.shape != weight.shape[:1]:
        raise ValueError(
            f"{layer}: `bias` must be of shape {_shape(weight)[:1]}, got {_shape(bias)}."
        )
    if bias.dtype != x.dtype or bias.device != weight.device:  # x has the dtype of `weight`
        raise ValueError(
            f"{layer}: `bias` must have dtype and device of `weight`, {x.dtype} on "
            f"{weight.device}, got {bias.dtype} on {bias.device}."
        )


def _shape(tensor: Weight) -> tuple[int, ...]:
    return tuple(tensor.shape)
