"""Decima's messages from children to parents. Importing this module loads torch-geometric."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from netllm_encoders.graph.mlp import mlp


class Decima(nn.Module):
    """A round of messages in which a stage gets the sum of what its children say.

    Children's messages are an MLP of their features. Their sum, layer-normed, and the stage's own
    features pass another MLP, which is added to the stage.

    Source: Decima (Mao et al., SIGCOMM 2019), section 5.1; the norm and the residual are ours.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.message = mlp(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.update = mlp(2 * hidden, hidden)
        self.sum = Sum()

    def forward(
        self, stages: Float[Tensor, "stage hidden"], edges: Int[Tensor, "2 edge"]
    ) -> Float[Tensor, "stage hidden"]:
        """The stages, each with what its children add to it; an edge is (child, parent)."""
        summed = self.sum(self.message(stages), edges)
        updated: Tensor = stages + self.update(torch.cat([stages, self.norm(summed)], -1))
        return updated


class Sum(MessagePassing):  # type: ignore[misc]
    """The sum of children's messages, as they are."""

    def forward(
        self, messages: Float[Tensor, "stage hidden"], edges: Int[Tensor, "2 edge"]
    ) -> Float[Tensor, "stage hidden"]:
        """The sum of every stage's children; an edge is (child, parent)."""
        summed: Tensor = self.propagate(edges, x=messages)
        return summed

    def message(self, x_j: Tensor) -> Tensor:
        """What a child says."""
        return x_j

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """The sums; for a few hundred rows in a third of the time of PyG's `scatter`."""
        return inputs.new_zeros(dim_size, inputs.shape[1]).index_add_(0, index, inputs)
