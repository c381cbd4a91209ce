"""The declared scaling of a field's values."""

import math

from jaxtyping import Float, Num
from torch import Tensor


def check_scale(scale: float) -> float:
    """The scale, when it is a positive finite number.

    Raises:
        ValueError: If it is not.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(
            f"`scale` must be a positive finite number, got {scale!r}. "
            "Give the size of a typical value in the field's own unit."
        )
    return float(scale)


def scaled(values: Num[Tensor, "*shape"], *, scale: float, log: bool) -> Float[Tensor, "*shape"]:
    """`values / scale`, then, with `log`, sign(v)·log(1 + |v|) of that: float32, of order one.

    The logarithm is taken after the division, so `scale` sets where it bends from linear to
    logarithmic; its odd extension keeps negative values (a return-to-go) legal.
    """
    values = values.float() / scale
    return values.sign() * values.abs().log1p() if log else values
