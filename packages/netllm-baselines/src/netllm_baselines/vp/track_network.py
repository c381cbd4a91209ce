"""The network of TRACK, in torch."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netllm_baselines.vp._torch_layers import SCALE_DEG, blurred, build, dropped, wrap
from netllm_baselines.vp.saliency import COLUMNS, ROWS

_State = tuple[Tensor, Tensor]
STEP_DEG = 5.0
"""Brings typical turns between two points to order one."""


class TRACKNetwork(nn.Module):
    """How far the head will have turned at each future point, in degrees per axis, step by step.

    An encoder reads the history: one LSTM the positions, one the saliency of the frames (if any),
    a third one fuses their outputs. A decoder of the same three begins with the encoder's states
    and the last observed position; each step adds its output to the position and reads the result
    (and the saliency of the coming frame) in the next one. A position is its wrapped offset from
    the last observed one over 30, with sine and cosine of where that is; a map is turned so that
    its middle column is the last observed yaw.

    Args:
        hidden: Width of each LSTM.
        horizon: Future points.
        saliency: Read maps too.
        dropout: Share of the fused outputs that is hidden from the linear layers in training.
        blur: Sigma of noise on the sines and cosines in training, one draw per window.
    """

    def __init__(
        self, *, hidden: int, horizon: int, saliency: bool, dropout: float, blur: float
    ) -> None:
        super().__init__()
        self.blur = blur
        self.dropout = dropout
        self.horizon = horizon
        self.saliency = saliency
        fused = 2 * hidden if saliency else hidden
        self.position_encoder = nn.LSTM(9, hidden, batch_first=True)
        self.position_decoder = nn.LSTMCell(9, hidden)
        self.fuse_encoder = nn.LSTM(fused, hidden, batch_first=True)
        self.fuse_decoder = nn.LSTMCell(fused, hidden)
        if saliency:
            self.saliency_encoder = nn.LSTM(ROWS * COLUMNS, hidden, batch_first=True)
            self.saliency_decoder = nn.LSTM(ROWS * COLUMNS, hidden, batch_first=True)
        self.inner = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 3)

    def forward(
        self,
        history_deg: Float[Tensor, "batch history 3"],
        saliency: Float[Tensor, "batch point rows columns"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch horizon 3"]:
        """Offsets from the last point in degrees, not wrapped; trains if given a generator."""
        last = history_deg[:, -1]
        offset = wrap(history_deg - last[:, None])
        noise = blurred(last.new_zeros(len(last), 6), self.blur, generator)
        moved, state = self.position_encoder(_point(offset, last[:, None], noise[:, None]))
        past, future = self._content(saliency, last, history_deg.shape[1])
        _, fuse = self.fuse_encoder(moved if past is None else torch.cat([moved, past], 2))
        position = offset[:, -1]
        answers = []
        state, fuse = _cell(state), _cell(fuse)
        for step in range(self.horizon):
            state = self.position_decoder(_point(position, last, noise), state)
            read = state[0] if future is None else torch.cat([state[0], future[:, step]], 1)
            fuse = self.fuse_decoder(read, fuse)
            fused = dropped(fuse[0], self.dropout, generator)
            position = position + self.out(self.inner(fused)) * STEP_DEG
            answers.append(position)
        return torch.stack(answers, 1)

    def _content(
        self, saliency: Tensor | None, last_deg: Float[Tensor, "batch 3"], history: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Outputs of the saliency LSTMs at the points of history and horizon."""
        if not self.saliency:
            return None, None
        maps = _centred(cast(Tensor, saliency), last_deg[:, 2]).flatten(2)
        past, state = self.saliency_encoder(maps[:, :history])
        return past, self.saliency_decoder(maps[:, history:], state)[0]


def _point(
    offset: Float[Tensor, "*batch 3"],
    last_deg: Float[Tensor, "*other 3"],
    noise: Float[Tensor, "*other 6"],
) -> Float[Tensor, "*batch 9"]:
    radians = (offset + last_deg).deg2rad()
    place = torch.cat([radians.sin(), radians.cos()], -1) + noise
    return torch.cat([wrap(offset) / SCALE_DEG, place], -1)


def _cell(state: _State) -> _State:
    return state[0][0], state[1][0]


def _centred(
    maps: Float[Tensor, "batch point rows columns"], yaw_deg: Float[Tensor, " batch"]
) -> Float[Tensor, "batch point rows columns"]:
    """Maps whose middle lies at the yaw, to the nearest column."""
    columns = maps.shape[-1]
    turn = (yaw_deg / 360 * columns).round().long()
    take = (torch.arange(columns) + turn[:, None]) % columns
    return maps.gather(3, take[:, None, None].expand_as(maps))


def network(
    *,
    hidden: int,
    horizon: int,
    saliency: bool,
    dropout: float = 0.0,
    blur: float = 0.0,
    generator: torch.Generator | None = None,
) -> TRACKNetwork:
    """The network, its parameters drawn from `generator`, or zero without one."""

    def make() -> TRACKNetwork:
        return TRACKNetwork(
            hidden=hidden, horizon=horizon, saliency=saliency, dropout=dropout, blur=blur
        )

    return build(make, generator)
