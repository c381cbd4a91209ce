"""The network of the GRU rival, in torch."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netllm_baselines.vp._torch_layers import SCALE_DEG, blurred, build, dropped, wrap


class GRUNetwork(nn.Module):
    """How far the head will have turned at each future point, in degrees per axis, in one shot.

    Each point of the history is its wrapped offset from the last one over 30, the motion since the
    point before it over 5, and sine and cosine of the last viewport. A linear layer reads all
    future offsets from the last state and these sines and cosines.

    Args:
        hidden: Width of the state.
        horizon: Future points.
        dropout: Share of the last state that is hidden from the linear layer in training.
        blur: Sigma of noise on the sines and cosines in training.
    """

    def __init__(self, *, hidden: int, horizon: int, dropout: float, blur: float) -> None:
        super().__init__()
        self.blur = blur
        self.dropout = dropout
        self.horizon = horizon
        self.gru = nn.GRU(12, hidden, batch_first=True)
        self.out = nn.Linear(hidden + 6, 3 * horizon)

    def forward(
        self,
        history_deg: Float[Tensor, "batch history 3"],
        saliency: None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch horizon 3"]:
        """Offsets from the last point in degrees, not wrapped; trains if given a generator."""
        last = history_deg[:, -1]
        offset = wrap(history_deg - last[:, None])
        motion = torch.cat([torch.zeros_like(offset[:, :1]), offset.diff(dim=1)], 1)
        radians = last.deg2rad()
        place = torch.cat([radians.sin(), radians.cos()], 1)  # (batch, 6)
        place = blurred(place, self.blur, generator)
        everywhere = place[:, None].expand(-1, history_deg.shape[1], -1)
        points = torch.cat([offset / SCALE_DEG, wrap(motion) / 5, everywhere], 2)
        state = dropped(self.gru(points)[1][-1], self.dropout, generator)
        answer = self.out(torch.cat([state, place], 1))
        return answer.unflatten(1, (self.horizon, 3)) * SCALE_DEG


def network(
    *,
    hidden: int,
    horizon: int,
    dropout: float = 0.0,
    blur: float = 0.0,
    generator: torch.Generator | None = None,
) -> GRUNetwork:
    """The network, its parameters drawn from `generator`, or zero without one."""

    def make() -> GRUNetwork:
        return GRUNetwork(hidden=hidden, horizon=horizon, dropout=dropout, blur=blur)

    return build(make, generator)
