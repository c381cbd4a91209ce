"""What the learned viewport predictors share in torch."""

from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

SCALE_DEG = 30.0
"""Brings typical offsets to order one."""

_Network = TypeVar("_Network", bound=nn.Module)


def wrap(degrees: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same angles in [-180, 180)."""
    return (degrees + 180) % 360 - 180


def dropped(
    x: Float[Tensor, "*shape"], share: float, generator: torch.Generator | None
) -> Float[Tensor, "*shape"]:
    """Some numbers set to zero and the rest scaled up; all of them without a generator."""
    if generator is None or share == 0:
        return x
    return x * (torch.rand(x.shape, generator=generator) >= share) / (1 - share)


def blurred(
    x: Float[Tensor, "*shape"], sigma: float, generator: torch.Generator | None
) -> Float[Tensor, "*shape"]:
    """With Gaussian noise; without a generator as it is."""
    if generator is None or sigma == 0:
        return x
    return x + sigma * torch.randn(x.shape, generator=generator)


def build(make: Callable[[], _Network], generator: torch.Generator | None) -> _Network:
    """A network that leaves torch's own random stream alone.

    Parameters are uniform within one over the root of their inputs (of the width, for recurrent
    layers: their rows), as torch draws them; without a generator they are zero.
    """
    with torch.random.fork_rng(devices=[]):
        network = make()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.RNNBase | nn.LSTMCell):
                bound = layer.hidden_size**-0.5
            elif isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
            else:
                continue
            for parameter in layer.parameters(recurse=False):
                parameter.zero_()
                if generator is not None:
                    parameter.uniform_(-bound, bound, generator=generator)
    return network
