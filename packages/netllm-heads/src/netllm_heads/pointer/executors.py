"""Features of a number of executors that a stage may get."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

_FREQUENCIES = 6  # of π·2^j·share: the highest tells neighbours apart up to some 60 executors
FEATURES = 4 + 2 * _FREQUENCIES
ADVICE_FEATURES = 2


def executor_features(
    k: Int[Tensor, "row"], limit: Int[Tensor, "row"], executors: Int[Tensor, "row"]
) -> Float[Tensor, "row feature"]:
    """What tells k executors from others, with shares of the limit and of the cluster."""
    share = k / executors
    waves = share[:, None] * math.pi * 2.0 ** torch.arange(_FREQUENCIES, device=k.device)
    plain = torch.stack([share, k / limit, k.float().log(), (k == limit).float()], -1)
    return torch.cat([plain, waves.sin(), waves.cos()], -1)


def advice_features(k: Int[Tensor, "row"], advised: Int[Tensor, "row"]) -> Float[Tensor, "row 2"]:
    """Whether there is advice, and the logarithm of k in units of it."""
    known = advised > 0
    ratio = torch.where(known, k / advised.clamp(min=1), 1.0)
    return torch.stack([known.float(), ratio.log()], -1)
