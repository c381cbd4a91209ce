"""Features to token vectors."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Projection(nn.Module):
    """Token vectors of the backbone's width: per token a linear map, then a layer norm.

    Every token of a step has its own map, gain and bias, kept in one tensor and applied in one
    batched product.

    Args:
        hidden: Number of features of each token.
        width: The backbone's embedding width.
        tokens: Tokens per step.
        gain: Gain of the layer norm at the start: the standard deviation within a token vector.

    Source: NetLLM (Wu et al., SIGCOMM 2024), section 4.1: "linear layers project features into
    the token space", followed by layer normalisation.
    """

    def __init__(self, *, hidden: int, width: int, tokens: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        bound = hidden**-0.5
        self.weight = nn.Parameter(torch.empty(tokens, hidden, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(tokens, 1, width).uniform_(-bound, bound))
        self.gain = nn.Parameter(torch.full((tokens, width), float(gain)))
        self.shift = nn.Parameter(torch.zeros(tokens, width))

    def forward(
        self, features: Float[Tensor, "token row hidden"]
    ) -> Float[Tensor, "row token width"]:
        """One vector per row and token; the features come token by token."""
        vectors = torch.baddbmm(self.bias, features, self.weight).transpose(0, 1)
        normed = nn.functional.layer_norm(vectors, vectors.shape[-1:])
        return torch.addcmul(self.shift, normed, self.gain)
