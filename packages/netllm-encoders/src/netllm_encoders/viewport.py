"""The tokens of a viewer's recent head movement."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netllm_encoders.image.token import Image
from netllm_encoders.projection import Projection
from netllm_encoders.side_tokens import Crowd, Memory
from netllm_encoders.viewer_angles import point_features

_POINTS = 13  # tokens of points at most: with an image and the query 15, of the 16 allowed


class Viewport(nn.Module):
    """The tokens of a history of viewports: one per point, one of the image, a query.

    Where it is told of a memory, tokens of the viewer's past come first (`side_tokens.Memory`);
    where it is told of a crowd, one token for each other viewer comes before the query
    (`side_tokens.Crowd`), whose hidden states the head may read too.

    A viewport is roll, pitch and yaw in degrees. A point's twelve features are its offset from the
    last point, divided by 30 degrees; its motion since the point before, divided by 10; sine and
    cosine of its three angles. Differences are wrapped into [-180, 180), so crossing ±180 degrees
    is nothing special, and only sines and cosines tell where the viewer is. Two convolutions over
    time make a token per point of them, or of every `group` of neighbours, averaged.

    The last token is learned and the same for every row: the head reads the hidden state there.

    Args:
        width: The backbone's embedding width.
        history: Points used, the last ones of an observation.
        hidden: Number of features of a token before they are projected to `width`.
        group: Points per token, from the newest on; None for as few as leave at most 13 tokens
            (20 points make 10).
        image: `rows`, `columns` and `channels` of the field `image`, the grid of features of the
            frame that is seen, see `Image` (also `reduced`); None if no image is used.
        memory: Points of the past before the history; 0 for none.
        crowd: `viewers` and `horizon`, the number of other viewers that an observation holds and
            the points of the future that it shows of them; None for none.
        gain: Standard deviation within a token vector at the start, see `Projection`.

    Raises:
        ValueError: If a setting is out of range.

    Source: NetLLM (Wu et al., SIGCOMM 2024), section 4.1, "1D-CNN for time-series". Its public
    code gives the convolution absolute angles, divided by 180 and 90 and never unwrapped; offsets,
    motion, sines and cosines are ours, as is the query in place of generating step after step.
    """

    def __init__(
        self,
        *,
        width: int,
        history: int,
        hidden: int = 128,
        group: int | None = None,
        image: Mapping[str, int] | None = None,
        memory: int = 0,
        crowd: Mapping[str, int] | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        _check_counts(width, history, hidden)
        self._config = {
            "width": width,
            "history": history,
            "hidden": hidden,
            "group": group,
            "image": None if image is None else dict(image),
            "memory": memory,
            "crowd": None if crowd is None else dict(crowd),
            "gain": gain,
        }
        self.width = width
        self.history = history
        self.group = _points_of_token(group, history)
        points = math.ceil(history / self.group)
        self.convolutions = _convolutions(hidden)
        self.image = None if image is None else _image(image, hidden)
        self.projection = Projection(
            hidden=hidden, width=width, tokens=points + (self.image is not None), gain=gain
        )
        self.query = nn.Parameter(gain * torch.randn(width))
        own: dict[str, Any] = {"hidden": hidden, "width": width, "gain": gain}
        self.memory = Memory(points=memory, **own) if memory else None
        self.crowd, viewers = _crowd(crowd, **own)
        self.viewers = viewers
        past = 0 if self.memory is None else self.memory.tokens
        self.tokens = past + points + (self.image is not None) + viewers + 1

    def config(self) -> dict[str, Any]:
        """The settings, ready for JSON: `Viewport(**config)` is the same encoder, new weights."""
        return copy.deepcopy(self._config)

    def observe(self, observation: Mapping[str, Any]) -> Float[Tensor, "batch token width"]:
        """The tokens of every row: the past, points from the oldest on, image, viewers, query.

        Args:
            observation: `viewport_deg`, roll, pitch and yaw in degrees, `(batch, points, 3)` with
                at least `history` points, wrapped or not; where they are declared, `image`
                `(batch, rows, columns, channels)`; `memory_deg` `(batch, memory, 3)` and
                `memory_known` `(batch, memory)`; `crowd_deg` `(batch, viewer, points + horizon,
                3)` and `crowd_known` `(batch, viewer)`. All finite (not checked).

        Raises:
            ValueError: If a field is missing or its values have another shape.
        """
        viewport_deg = self._history(_field(observation, "viewport_deg"))
        features = self._pooled(self.convolutions(point_features(viewport_deg).mT))
        if self.image is not None:
            image = self._image_features(_field(observation, "image"), viewport_deg[:, -1])
            features = torch.cat([features, image[None]])
        vectors = self.projection(features)
        query = self.query.expand(vectors.shape[0], 1, -1).to(vectors.dtype)
        past, others = self._past(observation, viewport_deg), self._others(observation)
        return torch.cat([*past, vectors, *others, query], dim=1)

    def _past(self, observation: Mapping[str, Any], viewport_deg: Tensor) -> list[Tensor]:
        if self.memory is None:
            return []
        memory_deg = _field(observation, "memory_deg")
        shape = (len(viewport_deg), self.memory.points, 3)
        _check_shape("memory_deg", memory_deg, shape, "the points before the history")
        known = _field(observation, "memory_known").bool()
        _check_shape("memory_known", known, shape[:2], "which of them are known")
        return [self.memory(memory_deg.float(), known, viewport_deg[:, -1])]

    def _others(self, observation: Mapping[str, Any]) -> list[Tensor]:
        if self.crowd is None:
            return []
        viewport_deg = _field(observation, "viewport_deg").float()
        batch, points = viewport_deg.shape[:2]
        shape = (batch, self.viewers, points + self.crowd.horizon, 3)
        crowd_deg = _field(observation, "crowd_deg")
        _check_shape("crowd_deg", crowd_deg, shape, "each viewer at all points")
        known = _field(observation, "crowd_known").bool()
        _check_shape("crowd_known", known, shape[:2], "which viewers are known")
        return [self.crowd(crowd_deg.float(), known, viewport_deg)]

    def _history(self, viewport_deg: Tensor) -> Tensor:
        shape = tuple(viewport_deg.shape)
        if len(shape) != 3 or shape[2] != 3:
            raise ValueError(
                f"field 'viewport_deg' must have shape (batch, points, 3), got {shape}: roll, "
                "pitch and yaw of every point, in degrees."
            )
        if shape[1] < self.history:
            raise ValueError(
                f"field 'viewport_deg' must hold at least {self.history} points, got {shape[1]}. "
                "Was the encoder built for a setting with a longer history?"
            )
        return viewport_deg[:, -self.history :].float()

    def _pooled(self, features: Tensor) -> Tensor:
        # Flipped, so that it is the oldest group that holds fewer points.
        newest_first = nn.functional.avg_pool1d(features.flip(-1), self.group, ceil_mode=True)
        return newest_first.flip(-1).permute(2, 0, 1)  # (token, batch, hidden)

    def _image_features(self, grid: Tensor, viewport_deg: Tensor) -> Tensor:
        assert self.image is not None
        if grid.ndim != 4 or len(grid) != len(viewport_deg):
            raise ValueError(
                f"field 'image' must have shape ({len(viewport_deg)}, rows, columns, channels), "
                f"got {tuple(grid.shape)}: one grid of features per history."
            )
        try:
            features: Tensor = self.image(grid, viewport_deg)
        except ValueError as error:
            raise ValueError(f"field 'image' {error}") from error
        return features


def _field(observation: Mapping[str, Any], name: str) -> Tensor:
    if name not in observation:
        raise ValueError(
            f"the observation must hold the field {name!r}, got {', '.join(observation)}. "
            "Was the encoder built for another task, or with `image` where there are no frames?"
        )
    value: Tensor = observation[name]
    return value


def _check_counts(width: int, history: int, hidden: int) -> None:
    if min(width, history, hidden) < 1:
        raise ValueError(
            "`width`, `history` and `hidden` must be at least 1, "
            f"got {width}, {history} and {hidden}."
        )


def _convolutions(hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(12, hidden, 3, padding=1),
        nn.GELU(),
        nn.Conv1d(hidden, hidden, 3, padding=1),
        nn.GELU(),
    )


def _check_shape(name: str, value: Tensor, shape: tuple[int, ...], what: str) -> None:
    if tuple(value.shape) != shape:
        raise ValueError(
            f"field {name!r} must have shape {shape}, got {tuple(value.shape)}: {what}. Was the "
            "encoder built for another setting?"
        )


def _crowd(crowd: Mapping[str, int] | None, **own: Any) -> tuple[Crowd | None, int]:
    """What makes tokens of other viewers, and of how many."""
    if crowd is None:
        return None, 0
    if set(crowd) != {"viewers", "horizon"} or min(crowd.values()) < 1:
        raise ValueError(
            f"`crowd` must hold `viewers` and `horizon`, both at least 1, got {dict(crowd)}."
        )
    return Crowd(horizon=crowd["horizon"], **own), crowd["viewers"]


def _points_of_token(group: int | None, history: int) -> int:
    """How many points a token is made of: as few as the number of tokens allows, or `group`."""
    least = math.ceil(history / _POINTS)
    if group is not None and group < least:
        raise ValueError(
            f"`group` must be at least {least} for a history of {history} points, got {group}: "
            f"there may be {_POINTS} tokens of points."
        )
    return group or least


def _image(image: Mapping[str, int], hidden: int) -> Image:
    try:
        return Image(hidden=hidden, **image)
    except TypeError as error:
        raise ValueError(
            "`image` must hold 'rows', 'columns' and 'channels' of the grid of features (and may "
            f"hold 'reduced'), got {', '.join(image) or 'nothing'}."
        ) from error
