"""The tokens of a sequence, several numbers per point, and of what is known beside it."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netllm_encoders.projection import Projection
from netllm_encoders.scalar import check_scale, scaled
from netllm_encoders.single import Fields


class Points(nn.Module):
    """The tokens of a sequence, such as the packets of a flow, and one per field beside it.

    All numbers of a point go through two convolutions together, so that a token sees the points
    around its own; some neighbouring points, pooled, make one token. Points whose numbers are all 0
    are told apart, as those after the end of a short sequence.

    Args:
        width: The backbone's embedding width.
        length: Points of the sequence as it comes.
        series: Per field of the sequence `scale` and `log`, as kind `series` has them.
        fields: What is known beside the sequence, see `Fields`; its tokens come last.
        group: Neighbouring points that make one token.
        hidden: Number of features of a point and of a field.
        gain: Standard deviation within a token vector at the start, see `Projection`.

    Raises:
        ValueError: If there is no series or no field, or a setting is unknown or out of range.
    """

    def __init__(
        self,
        *,
        width: int,
        length: int,
        series: Mapping[str, Mapping[str, Any]],
        fields: Mapping[str, Mapping[str, Any]],
        group: int = 1,
        hidden: int = 128,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        if not series:
            raise ValueError("`series` must name at least one field of the observation, got none.")
        if min(length, group) < 1:
            raise ValueError(f"`length` and `group` must be at least 1, got {length} and {group}.")
        self._config = {
            "width": width,
            "length": length,
            "series": {name: dict(settings) for name, settings in series.items()},
            "fields": {name: dict(settings) for name, settings in fields.items()},
            "group": group,
            "hidden": hidden,
            "gain": gain,
        }
        self.width, self.length, self.group = width, length, group
        self.series = {name: _how(name, settings) for name, settings in series.items()}
        self.fields = Fields(width=width, fields=fields, hidden=hidden, gain=gain)
        self.convolutions = nn.Sequential(
            nn.Conv1d(len(series) + 1, hidden, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(hidden, hidden, 3, padding=1),
            nn.GELU(),
        )
        self.projection = Projection(hidden=hidden, width=width, gain=gain)
        self.tokens = math.ceil(length / group) + self.fields.tokens

    def config(self) -> dict[str, Any]:
        """The settings, ready for JSON: `Points(**config)` is the same encoder, new weights."""
        return copy.deepcopy(self._config)

    def observe(self, observation: Mapping[str, Any]) -> Float[Tensor, "batch token width"]:
        """The tokens of every row: points from the first on, then fields in the declared order.

        Args:
            observation: Per series its values, `(batch, length)`, and per field what `Fields`
                takes. All finite (not checked).

        Raises:
            ValueError: If a declared field is missing or its values have another shape.
        """
        points = torch.stack([self._values(name, observation) for name in self.series], 1)
        there = (points != 0).any(1, keepdim=True).to(points.dtype)
        features = self.convolutions(torch.cat([points, there], 1))
        if self.group > 1:
            features = nn.functional.avg_pool1d(features, self.group, ceil_mode=True)
        rows = features.mT.flatten(0, 1)  # (batch * token, hidden)
        vectors = self.projection(rows[None]).view(len(points), -1, self.width)
        return torch.cat([vectors, self.fields.observe(observation)], 1)

    def _values(self, name: str, observation: Mapping[str, Any]) -> Float[Tensor, "batch point"]:
        if name not in observation:
            raise ValueError(
                f"the observation must hold the field {name!r}, got {', '.join(observation)}. "
                "Was the encoder built for another task?"
            )
        values = observation[name]
        if values.shape[1:] != (self.length,):
            raise ValueError(
                f"field {name!r} must have shape (batch, {self.length}), got {tuple(values.shape)}."
            )
        scale, log = self.series[name]
        return scaled(values, scale=scale, log=log)


def _how(field: str, settings: Mapping[str, Any]) -> tuple[float, bool]:
    """Scale of a series, and whether its logarithm is taken."""
    if unknown := [name for name in settings if name not in ("scale", "log")]:
        raise ValueError(f"field {field!r}: unknown setting {unknown[0]!r}. It has: scale, log.")
    try:
        return check_scale(settings.get("scale", 1.0)), settings.get("log", False)
    except ValueError as error:
        raise ValueError(f"field {field!r}: {error}") from error
