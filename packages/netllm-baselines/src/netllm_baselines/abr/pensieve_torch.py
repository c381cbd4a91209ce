"""Pensieve's network in torch, to be trained."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netllm_baselines.abr.pensieve_network import SCALARS, SERIES, TAPS, UNITS, blocks, shapes


class Network(nn.Module):
    """The layers of `PensieveNetwork`, with weights and names of its file.

    Args:
        levels: Rates of the ladder.
        generator: Draws the first weights.

    Raises:
        ValueError: The ladder is shorter than a convolution.
    """

    def __init__(self, levels: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self._blocks = blocks(levels)
        merged = shapes(levels)["hidden.weight"][1]
        for name in SCALARS:
            self.add_module(name, torch.nn.utils.skip_init(nn.Linear, 1, UNITS))
        for name in SERIES:
            self.add_module(name, torch.nn.utils.skip_init(nn.Conv1d, 1, UNITS, TAPS))
        self.hidden = torch.nn.utils.skip_init(nn.Linear, merged, UNITS)
        self.answer = torch.nn.utils.skip_init(nn.Linear, UNITS, levels)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.zeros_(parameter)

    def forward(self, x: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch level"]:
        """Logits of the levels, from what `pensieve_network.inputs` gives."""
        parts = {name: x[:, place] for name, place in self._blocks.items()}
        branches = [self.get_submodule(name)(parts[name]) for name in SCALARS]
        # (batch, steps) -> (batch, 1, steps) -> (batch, filters, places) -> one row
        branches += [self.get_submodule(name)(parts[name][:, None]).flatten(1) for name in SERIES]
        logits: Tensor = self.answer(self.hidden(torch.cat(branches, 1).relu()).relu())
        return logits
