"""The network of the GRU rival that knows the viewer's past and other viewers, in torch."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from netllm_baselines.vp._torch_layers import SCALE_DEG, build, dropped, wrap

ALIKE = 5
"""Last points of the history at which viewers are compared."""
_STRETCH = 10
"""Points of the past that are one input."""
_PAST, _WIDTH, _WAYS, _KEY = 64, 128, 4, 32
_NOTHING = 0.1

Side = Mapping[str, Tensor]


class GRUSideNetwork(nn.Module):
    """How far the head will have turned at each future point, in degrees per axis, in one shot.

    A GRU reads the history as `gru_network.GRUNetwork` does, a second one the past, ten points at a
    time. Their last states ask the other viewers (`Viewers`); the states and what was told give
    the answer by an MLP, to which gated shares of the viewers' own turns are added.

    Args:
        hidden: Width of the state.
        horizon: Future points.
        memory: Whether the past is read.
        crowd: Whether other viewers are.
        dropout: Share of the states that is hidden in training.

    Source: ours; attention over other viewers after Vinyals et al., "Pointer Networks", 2015.
    """

    def __init__(
        self, *, hidden: int, horizon: int, memory: bool, crowd: bool, dropout: float
    ) -> None:
        super().__init__()
        self.horizon, self.dropout = horizon, dropout
        self.gru = nn.GRU(12, hidden, batch_first=True)
        self.past = nn.GRU(16, _PAST, batch_first=True) if memory else None
        state = hidden + 6 + _PAST * memory
        self.viewers = Viewers(state, horizon) if crowd else None
        state += _WAYS * _KEY * crowd
        self.gates = nn.Linear(state, _WAYS * horizon * 3) if crowd else None
        self.out = nn.Sequential(nn.Linear(state, 256), nn.GELU(), nn.Linear(256, 3 * horizon))

    def forward(
        self,
        history_deg: Float[Tensor, "batch history 3"],
        side: Side,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch horizon 3"]:
        """Offsets from the last point in degrees, not wrapped; trains if given a generator."""
        last = history_deg[:, -1]
        offset = wrap(history_deg - last[:, None])
        motion = torch.cat([torch.zeros_like(offset[:, :1]), wrap(offset.diff(dim=1))], 1)
        place = torch.cat([last.deg2rad().sin(), last.deg2rad().cos()], 1)
        everywhere = place[:, None].expand(-1, history_deg.shape[1], -1)
        points = torch.cat([offset / SCALE_DEG, motion / 5, everywhere], 2)
        states = [self.gru(points)[1][-1], place]
        if self.past is not None:
            known = _some(side["memory_known"], generator)
            states.append(self.past(_stretches(side["memory_deg"], known, last))[1][-1])
        state = dropped(torch.cat(states, 1), self.dropout, generator)
        followed: Tensor | float = 0.0
        if self.viewers is not None and self.gates is not None:
            told, turns = self.viewers(state, history_deg, side)
            state = torch.cat([state, told], 1)
            gates = (self.gates(state) - 1).sigmoid().unflatten(1, (_WAYS, self.horizon, 3))
            followed = (gates * turns).sum(1)
        first, gelu, second = self.out
        answer = second(dropped(gelu(first(state)), self.dropout, generator))
        return answer.unflatten(1, (self.horizon, 3)) * SCALE_DEG + followed


class Viewers(nn.Module):
    """What other viewers tell, asked in four ways.

    An MLP reads each, together with the state: its offsets from the viewer over the last second,
    its turns at every second point of the horizon, sine and cosine of where it looks. Products of
    keys made of that with queries made of the state, less a multiple of the mean offset, and one
    more choice that stands still, are softmaxed. So weighed, values and turns are averaged.

    Args:
        state: Width of what asks.
        horizon: Future points.
    """

    def __init__(self, state: int, horizon: int) -> None:
        super().__init__()
        self.horizon = horizon
        features = 3 * ALIKE + 3 * (horizon // 2) + 6
        self.one, self.asked = nn.Linear(features, _WIDTH), nn.Linear(state, _WIDTH)
        self.read = nn.Sequential(nn.GELU(), nn.Linear(_WIDTH, _WIDTH), nn.GELU())
        self.keys = nn.Linear(_WIDTH, _WAYS * _KEY)
        self.values = nn.Linear(_WIDTH, _WAYS * _KEY)
        self.queries = nn.Linear(state, _WAYS * _KEY)
        self.still = nn.Linear(state, _WAYS)
        self.far = nn.Parameter(torch.full((_WAYS,), 2.0))

    def forward(
        self,
        state: Float[Tensor, "batch state"],
        history_deg: Float[Tensor, "batch history 3"],
        side: Side,
    ) -> tuple[Float[Tensor, "batch told"], Float[Tensor, "batch way horizon 3"]]:
        """Values of all ways, and each way's mean turns in degrees."""
        now, crowd_deg = history_deg.shape[1], side["crowd_deg"]
        alike = slice(max(0, now - ALIKE), now)
        offset = wrap(crowd_deg[:, :, alike] - history_deg[:, None, alike])
        offset = nn.functional.pad(offset, (0, 0, ALIKE - offset.shape[2], 0))
        turns = wrap(crowd_deg[:, :, now - 1 : now + self.horizon].diff(dim=2)).cumsum(2)
        angle = crowd_deg[:, :, now - 1].deg2rad()
        seen = [offset.flatten(2) / SCALE_DEG, turns[:, :, 1::2].flatten(2) / SCALE_DEG]
        one = self.one(torch.cat([*seen, angle.sin(), angle.cos()], -1))
        each = self.read(one + self.asked(state)[:, None])
        keys, values = (
            layer(each).unflatten(-1, (_WAYS, _KEY)) for layer in (self.keys, self.values)
        )
        queries = self.queries(state).unflatten(-1, (_WAYS, _KEY))
        scores = torch.einsum("bvwk,bwk->bwv", keys, queries) / _KEY**0.5
        scores = scores - self.far[:, None] * seen[0].abs().mean(-1)[:, None]
        scores = scores.masked_fill(~side["crowd_known"][:, None], -torch.inf)
        weights = torch.cat([scores, self.still(state)[..., None]], -1).softmax(-1)[..., :-1]
        told = torch.einsum("bwv,bvwk->bwk", weights, values)
        return told.flatten(1), torch.einsum("bwv,bvtc->bwtc", weights, turns)


def _some(
    known: Bool[Tensor, "batch point"], generator: torch.Generator | None
) -> Bool[Tensor, "batch point"]:
    """In training a tenth of the windows knows nothing of the past."""
    if generator is None:
        return known
    return known & (torch.rand(len(known), 1, generator=generator) >= _NOTHING)


def _stretches(
    memory_deg: Float[Tensor, "batch point 3"],
    known: Bool[Tensor, "batch point"],
    last: Float[Tensor, "batch 3"],
) -> Float[Tensor, "batch stretch 16"]:
    """What the second GRU reads: means over the known of ten points, and the share of them.

    Of a point: offset from the last one, sine and cosine, motion, motion without its sign.
    """
    points = memory_deg.shape[1] // _STRETCH * _STRETCH
    memory_deg, share = memory_deg[:, -points:], known[:, -points:, None].to(memory_deg.dtype)
    angle = memory_deg.deg2rad()
    before = torch.cat([share[:, :1], share[:, :-1]], 1)
    motion = wrap(memory_deg.diff(dim=1, prepend=memory_deg[:, :1])) * before / 10
    parts = [wrap(memory_deg - last[:, None]) / (2 * SCALE_DEG), angle.sin(), angle.cos()]
    every = torch.cat([*parts, motion, motion.abs()], -1) * share
    sums, count = (x.unflatten(1, (-1, _STRETCH)).sum(2) for x in (every, share))
    return torch.cat([sums / count.clamp(min=1), count / _STRETCH], -1)


def network(
    *,
    hidden: int,
    horizon: int,
    memory: bool,
    crowd: bool,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> GRUSideNetwork:
    """The network, its parameters drawn from `generator`, or zero without one."""

    def make() -> GRUSideNetwork:
        return GRUSideNetwork(
            hidden=hidden, horizon=horizon, memory=memory, crowd=crowd, dropout=dropout
        )

    return build(make, generator)
