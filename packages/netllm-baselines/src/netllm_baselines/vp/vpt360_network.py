"""The network of VPT360, in torch."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netllm_baselines.vp._torch_layers import SCALE_DEG, blurred, build, dropped, wrap

HEADS = 8
BLOCKS = 2


class VPT360Network(nn.Module):
    """How far the head will have turned at each future point, in degrees per axis, in one shot.

    Every point of the history is a token: its wrapped offset from the last one over 30 and sine and
    cosine of the last viewport, through a linear layer, and a sinusoid of its place in time. Blocks
    of a transformer's encoder let all of them see each other; a linear layer reads all future
    offsets from the last token and these sines and cosines.

    Args:
        hidden: Width of a token, a multiple of 8.
        horizon: Future points.
        dropout: Share of the last token that is hidden from the linear layer in training.
        blur: Sigma of noise on the sines and cosines in training.

    Raises:
        ValueError: A width that 8 heads cannot share.
    """

    def __init__(self, *, hidden: int, horizon: int, dropout: float, blur: float) -> None:
        super().__init__()
        if hidden % HEADS:
            raise ValueError(f"`hidden` must be a multiple of {HEADS} (heads), got {hidden}.")
        self.blur = blur
        self.dropout = dropout
        self.horizon = horizon
        self.embed = nn.Linear(9, hidden)
        self.blocks = nn.Sequential(*(Block(hidden) for _ in range(BLOCKS)))
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
        radians = last.deg2rad()
        place = blurred(torch.cat([radians.sin(), radians.cos()], 1), self.blur, generator)
        everywhere = place[:, None].expand(-1, history_deg.shape[1], -1)
        tokens = self.embed(torch.cat([offset / SCALE_DEG, everywhere], 2))
        tokens = self.blocks(tokens + _times(*tokens.shape[1:], like=tokens))
        state = dropped(tokens[:, -1], self.dropout, generator)
        answer = self.out(torch.cat([state, place], 1))
        return answer.unflatten(1, (self.horizon, 3)) * SCALE_DEG


class Block(nn.Module):
    """A block of a transformer's encoder: self-attention, then a layer four times as wide.

    Each adds to its input and is normalised after that.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.first_norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.second_norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Float[Tensor, "batch point width"]
    ) -> Float[Tensor, "batch point width"]:
        """Tokens that know of each other."""
        asked, keys, values = (
            part.unflatten(2, (HEADS, -1)).transpose(1, 2)  # (batch, head, point, width / HEADS)
            for part in self.queries_keys_values(tokens).chunk(3, dim=2)
        )
        told = nn.functional.scaled_dot_product_attention(asked, keys, values)
        tokens = self.first_norm(tokens + self.mix(told.transpose(1, 2).flatten(2)))
        turned: Tensor = self.second_norm(tokens + self.narrow(self.wide(tokens).relu()))
        return turned


def _times(points: int, width: int, *, like: Tensor) -> Float[Tensor, "point width"]:
    """Sinusoids of the points' places in time, of wavelengths from 2π to 20,000π points."""
    places = torch.arange(points, dtype=like.dtype)[:, None]
    rates = 10_000 ** (-torch.arange(0, width, 2, dtype=like.dtype) / width)
    return torch.stack([(places * rates).sin(), (places * rates).cos()], -1).flatten(1)


def network(
    *,
    hidden: int,
    horizon: int,
    dropout: float = 0.0,
    blur: float = 0.0,
    generator: torch.Generator | None = None,
) -> VPT360Network:
    """The network, its parameters drawn from `generator`, or zero without one."""

    def make() -> VPT360Network:
        return VPT360Network(hidden=hidden, horizon=horizon, dropout=dropout, blur=blur)

    return build(make, generator)
