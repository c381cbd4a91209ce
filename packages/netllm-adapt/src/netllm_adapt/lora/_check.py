"""What the arguments of the operation must be, said with the layer's name."""

from torch import Tensor


def check(
    x: Tensor,
    weight: Tensor,
    a: Tensor,
    b: Tensor,
    dropout: float,
    layer: str,
) -> None:
    """Nothing, if the arguments of ``lora_linear`` fit each other.

    Raises:
        ValueError: Naming ``layer``, what must hold and what came.
    """
    outputs, inputs = weight.shape
    rank = a.shape[0]
    if not 0 <= dropout < 1:
        raise ValueError(f"{layer}: `dropout` must be at least 0 and below 1, got {dropout}.")
    if not 1 <= rank <= min(outputs, inputs):
        raise ValueError(
            f"{layer}: the rank must be from 1 to {min(outputs, inputs)}, the layer's smaller "
            f"side, got {rank}."
        )
    if x.shape[-1] != inputs:
        raise ValueError(f"{layer}: `x` must end with width {inputs}, got shape {_shape(x)}.")
    if a.shape[1] != inputs or b.shape[0] != outputs or b.shape[1] != rank:
        raise ValueError(
            f"{layer}: A and B must be of shapes {(rank, inputs)} and {(outputs, rank)}, got "
            f"{_shape(a)} and {_shape(b)}. Was the adapter made for another model?"
        )
    if x.dtype != weight.dtype:
        raise ValueError(
            f"{layer}: `x` must have the dtype of `weight`, {weight.dtype}, got {x.dtype}. "
            "Cast it first."
        )
    if not (x.is_floating_point() and a.is_floating_point() and b.is_floating_point()):
        raise ValueError(
            f"{layer}: all tensors must be of floating point, got {x.dtype}, {a.dtype}, {b.dtype}."
        )
    if not x.device == weight.device == a.device == b.device:
        raise ValueError(
            f"{layer}: all tensors must be on one device, got x on {x.device}, the weight on "
            f"{weight.device}, A on {a.device} and B on {b.device}."
        )


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
