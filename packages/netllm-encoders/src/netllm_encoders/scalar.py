"""Features of one number per step, and how numbers are scaled."""

import math

from jaxtyping import Float, Num
from torch import Tensor, nn


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


class Scalar(nn.Module):
    """Features of one number per step: a small MLP on the scaled value.

    Values must be finite; that is not checked, for it would cost more than the encoding.

    Args:
        hidden: Number of features.
        scale: Divides the value; in the field's own unit.
        log: Whether the logarithm of the scaled value is taken, see `scaled`.

    Raises:
        ValueError: If `scale` is not positive and finite.

    Source: NetLLM (Wu et al., SIGCOMM 2024), section 4.1, encodes a scalar with one
    fully-connected layer; a second one lets it learn thresholds (a buffer running empty).
    """

    def __init__(self, *, hidden: int, scale: float = 1.0, log: bool = False) -> None:
        super().__init__()
        self.scale = check_scale(scale)
        self.log = log
        self.layers = nn.Sequential(
            nn.Linear(1, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )

    def forward(self, values: Num[Tensor, "batch step"]) -> Float[Tensor, "batch step hidden"]:
        """The features of every step's value.

        Raises:
            ValueError: If the values are not one number per step.
        """
        if values.ndim != 2:
            raise ValueError(
                "must be one number per step, shape (batch, step), "
                f"got shape {tuple(values.shape)}. Is it a series?"
            )
        features: Tensor = self.layers(scaled(values[..., None], scale=self.scale, log=self.log))
        return features
