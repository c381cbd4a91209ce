"""The small network that the graph encoder is made of."""

from torch import nn


def mlp(features: int, hidden: int) -> nn.Sequential:
    """Two linear maps with a GELU between them."""
    return nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, hidden))
