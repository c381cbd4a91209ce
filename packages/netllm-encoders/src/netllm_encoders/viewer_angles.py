"""Features of where viewers look, in numbers of order one."""

import torch
from jaxtyping import Float, Num
from torch import Tensor

OFFSET_DEG, MOTION_DEG = 30.0, 10.0
"""Typical turns over some seconds, and between two points."""


def point_features(
    viewport_deg: Num[Tensor, "batch point 3"], last_deg: Num[Tensor, "batch 3"] | None = None
) -> Float[Tensor, "batch point 12"]:
    """Per point: offset from `last_deg`, motion since the one before, sines and cosines.

    The first three are in units of 30 degrees, the next three of 10; the first point has no motion.
    `last_deg` is the last of the points unless told otherwise.
    """
    last_deg = viewport_deg[:, -1] if last_deg is None else last_deg
    offset = wrapped(viewport_deg - last_deg[:, None]) / OFFSET_DEG
    motion = wrapped(viewport_deg.diff(dim=1, prepend=viewport_deg[:, :1])) / MOTION_DEG
    angle = viewport_deg.deg2rad()
    return torch.cat([offset, motion, angle.sin(), angle.cos()], dim=-1)


def wrapped(angle_deg: Tensor) -> Tensor:
    """The same angles in [-180, 180)."""
    return torch.remainder(angle_deg + 180, 360) - 180
