"""Angles in degrees."""

import torch
from torch import Tensor


def wrapped(angle_deg: Tensor) -> Tensor:
    """The same angles in [-180, 180)."""
    turned = torch.remainder(angle_deg + 180, 360) - 180
    # In floating point the remainder of a small negative number is 360 itself.
    return torch.where(turned < 180, turned, turned - 360)
