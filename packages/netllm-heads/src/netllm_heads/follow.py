"""Following other viewers: their turns, weighed by how well they foretell this viewer's."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from netllm_heads.angles import wrapped

_WEIGHTS = 32
"""Width of the products that weigh viewers."""
_GATE = -1.0
"""Where gates start: a quarter of the turns is followed."""


class Follow(nn.Module):
    """Means of other viewers' turns, each by weights of its own, of which a gated share is taken.

    A product of the query's state with every viewer's, softmaxed with one more choice that stands
    still, weighs the viewers; `ways` such means, each with a gate per step and axis, are summed.

    Args:
        width: Of the hidden states.
        horizon: Steps of the answer.
        ways: Means.

    Raises:
        ValueError: If there are no ways.

    Source: pointing at inputs by attention, Vinyals et al., "Pointer Networks", NeurIPS 2015.
    """

    def __init__(self, *, width: int, horizon: int, ways: int) -> None:
        super().__init__()
        if ways < 1:
            raise ValueError(f"`ways` must be at least 1, got {ways}.")
        self.horizon, self.ways = horizon, ways
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Linear(width, ways * _WEIGHTS)
        self.keys = nn.Linear(width, ways * _WEIGHTS)
        self.still = nn.Linear(width, ways)
        self.gates = nn.Linear(width, ways * horizon * 3)
        nn.init.zeros_(self.gates.weight)
        nn.init.constant_(self.gates.bias, _GATE)

    def forward(
        self,
        query: Float[Tensor, "batch width"],
        viewers: Float[Tensor, "batch viewer width"],
        turns_deg: Float[Tensor, "batch viewer horizon 3"],
        known: Bool[Tensor, "batch viewer"],
    ) -> Float[Tensor, "batch horizon 3"]:
        """What is taken of the turns, in degrees; nothing of viewers that are not known."""
        query = self.norm(query)
        shape = (self.ways, _WEIGHTS)
        queries = self.queries(query).unflatten(-1, shape)
        keys = self.keys(self.norm(viewers)).unflatten(-1, shape)
        scores = torch.einsum("bvwk,bwk->bwv", keys, queries) / _WEIGHTS**0.5
        scores = scores.masked_fill(~known[:, None], -torch.inf)
        scores = torch.cat([scores, self.still(query)[..., None]], dim=-1)
        weights = scores.softmax(-1)[..., :-1]
        means = torch.einsum("bwv,bvtc->bwtc", weights, turns_deg)
        gates = self.gates(query).unflatten(-1, (self.ways, self.horizon, 3)).sigmoid()
        return (gates * means).sum(1)


def turns_of(
    observation: Mapping[str, Any], viewers: int, horizon: int
) -> tuple[Float[Tensor, "batch viewer horizon 3"], Bool[Tensor, "batch viewer"]]:
    """How far each viewer turned at every step of the horizon, in degrees, and who is known.

    Args:
        observation: `viewport_deg` (batch, history, 3), `crowd_deg` (batch, viewer, history +
            horizon, 3) and `crowd_known` (batch, viewer).
        viewers: Number of viewers that there must be.
        horizon: Steps.

    Raises:
        ValueError: If a field is missing or has another shape.
    """
    for name in ("viewport_deg", "crowd_deg", "crowd_known"):
        if name not in observation:
            raise ValueError(
                f"the observation must hold {name!r}, got {', '.join(observation)}. Does the "
                "setting show a crowd?"
            )
    batch, points = observation["viewport_deg"].shape[:2]
    crowd_deg, known = observation["crowd_deg"], observation["crowd_known"].bool()
    wanted = (batch, viewers, points + horizon, 3)
    if tuple(crowd_deg.shape) != wanted or tuple(known.shape) != wanted[:2]:
        raise ValueError(
            f"'crowd_deg' must have shape {wanted} and 'crowd_known' {wanted[:2]}, got "
            f"{tuple(crowd_deg.shape)} and {tuple(known.shape)}. Was the head built for another "
            "setting?"
        )
    steps = crowd_deg[:, :, points - 1 :].float().diff(dim=2)
    return wrapped(steps).cumsum(2), known
