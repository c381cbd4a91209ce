"""Tokens of what is known beside a history of viewports: the viewer's past, and other viewers."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from netllm_encoders.projection import Projection
from netllm_encoders.viewer_angles import OFFSET_DEG, point_features, wrapped


class Memory(nn.Module):
    """A token for each stretch of the past, the oldest first.

    A stretch's features are the means over its known points of theirs (`point_features`, offsets
    from the viewer's last point) and of the motions without their signs, and the share of its
    points that are known. An MLP and one projection serve all stretches; a learned vector tells
    how long ago each was.

    Args:
        points: Points of the past, those that observations hold.
        hidden: Features of a token before they are projected.
        width: The backbone's embedding width.
        gain: Standard deviation within a token vector at the start.
        stretch: Points of a stretch; the oldest may have fewer.
    """

    def __init__(
        self, *, points: int, hidden: int, width: int, gain: float, stretch: int = 25
    ) -> None:
        super().__init__()
        self.points, self.stretch = points, stretch
        self.tokens = math.ceil(points / stretch)
        self.features = _two_layers(16, hidden)
        self.ago = nn.Parameter(torch.zeros(self.tokens, hidden))
        self.projection = Projection(hidden=hidden, width=width, gain=gain)

    def forward(
        self,
        memory_deg: Float[Tensor, "batch point 3"],
        known: Bool[Tensor, "batch point"],
        last_deg: Float[Tensor, "batch 3"],
    ) -> Float[Tensor, "batch token width"]:
        """The tokens; points that are not known count for nothing."""
        before = torch.cat([known[:, :1], known[:, :-1]], dim=1)
        own = point_features(memory_deg, last_deg)
        motion = own[..., 3:6] * before[..., None]  # no motion from a point that is not known
        parts = [own[..., :3], motion, own[..., 6:], motion.abs(), torch.ones_like(own[..., :1])]
        features = torch.cat(parts, dim=-1) * known[..., None]
        missing = self.tokens * self.stretch - self.points
        padded = nn.functional.pad(features, (0, 0, missing, 0))
        sums = padded.unflatten(1, (self.tokens, self.stretch)).sum(2)
        counts = sums[..., -1:]
        means = torch.cat([sums[..., :-1] / counts.clamp(min=1), counts / self.stretch], dim=-1)
        return _projected(self.features(means) + self.ago, self.projection)


class Crowd(nn.Module):
    """A token for each other viewer, in the order of the observation.

    A viewer's features are its offsets from the viewer at the last points of the history, its
    turns from then on at every second point of the horizon, both divided by 30 degrees, sines and
    cosines of its last three angles, and whether it is known. An MLP and one projection serve all.

    Args:
        horizon: Points of the future that observations hold.
        hidden: Features of a token before they are projected.
        width: The backbone's embedding width.
        gain: Standard deviation within a token vector at the start.
        alike: Points of the history that are compared.
    """

    def __init__(
        self, *, horizon: int, hidden: int, width: int, gain: float, alike: int = 5
    ) -> None:
        super().__init__()
        self.horizon, self.alike = horizon, alike
        self.features = _two_layers(3 * alike + 3 * (horizon // 2) + 7, hidden)
        self.projection = Projection(hidden=hidden, width=width, gain=gain)

    def forward(
        self,
        crowd_deg: Float[Tensor, "batch viewer point 3"],
        known: Bool[Tensor, "batch viewer"],
        viewport_deg: Float[Tensor, "batch history 3"],
    ) -> Float[Tensor, "batch viewer width"]:
        """The tokens; of a viewer that is not known all features are zero.

        `crowd_deg` begins with the points of the history and goes on with those of the horizon.
        """
        now = viewport_deg.shape[1]
        alike = slice(now - min(self.alike, now), now)
        offset = wrapped(crowd_deg[:, :, alike] - viewport_deg[:, None, alike]) / OFFSET_DEG
        offset = nn.functional.pad(offset, (0, 0, self.alike - offset.shape[2], 0))
        steps = wrapped(crowd_deg[:, :, now - 1 : now + self.horizon].diff(dim=2))
        turns = steps.cumsum(2)[:, :, 1::2] / OFFSET_DEG
        angle = crowd_deg[:, :, now - 1].deg2rad()
        features = torch.cat(
            [
                offset.flatten(2),
                turns.flatten(2),
                angle.sin(),
                angle.cos(),
                torch.ones_like(angle[..., :1]),
            ],
            dim=-1,
        )
        return _projected(self.features(features * known[..., None]), self.projection)


def _two_layers(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())


def _projected(
    features: Float[Tensor, "batch token hidden"], projection: Projection
) -> Float[Tensor, "batch token width"]:
    """Tokens by one map for all of them."""
    vectors: Tensor = projection(features.flatten(0, 1)[None])
    return vectors.view(*features.shape[:2], -1)
