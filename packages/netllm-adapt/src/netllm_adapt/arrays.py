"""Arrays from outside, as the tensors that encoders and heads take."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def as_tensor(values: np.ndarray) -> Tensor:
    """A copy, so that read-only arrays serve too; fractions in float32."""
    tensor = torch.from_numpy(np.array(values))
    return tensor.float() if tensor.is_floating_point() else tensor
