"""The tokens of an observation that is answered by itself."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netllm_encoders.fields import field_encoder, field_features
from netllm_encoders.projection import Projection


class Fields(nn.Module):
    """The tokens of an observation: one per declared field.

    It knows neither episodes nor actions, as `Step` does: for predictions, and for agents that are
    shown all they need at every step. A head reads the hidden state of the last token, which sees
    those before it.

    Args:
        width: The backbone's embedding width.
        fields: Per field of the observation its `kind` and that kind's settings, as `Step` has
            them, in the order of the tokens. Other fields are not used.
        hidden: Number of features of a field before they are projected to `width`.
        gain: Standard deviation within a token vector at the start, see `Projection`.

    Raises:
        ValueError: If there is no field, or a field's kind or setting is unknown or out of range.
        ModuleNotFoundError: If a kind needs an extra that is not installed.
    """

    def __init__(
        self,
        *,
        width: int,
        fields: Mapping[str, Mapping[str, Any]],
        hidden: int = 128,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        if not fields:
            raise ValueError("`fields` must name at least one field of the observation, got none.")
        self._config = {
            "width": width,
            "fields": {name: dict(settings) for name, settings in fields.items()},
            "hidden": hidden,
            "gain": gain,
        }
        self.width = width
        self.fields = tuple(fields)
        self.tokens = len(fields)
        self.field_encoders = nn.ModuleList(
            field_encoder(name, settings, hidden=hidden)  # type: ignore[misc]
            for name, settings in fields.items()
        )
        self.projection = Projection(hidden=hidden, width=width, tokens=self.tokens, gain=gain)

    def config(self) -> dict[str, Any]:
        """The settings, ready for JSON: `Fields(**config)` is the same encoder, new weights."""
        return copy.deepcopy(self._config)

    def observe(self, observation: Mapping[str, Any]) -> Float[Tensor, "batch token width"]:
        """One token per field, in the declared order.

        Args:
            observation: Per field its values, `(batch, …)`; one number per row may come as
                `(batch, 1)`, as gymnasium has it. All finite (not checked).

        Raises:
            ValueError: If a declared field is missing or its values have another shape.
        """
        # The kinds of fields know steps: here one.
        seen = {name: observation[name] for name in self.fields if name in observation}
        steps = {n: x if x.shape[1:] == (1,) else x[:, None] for n, x in seen.items()}
        shape = (len(next(iter(seen.values()), ())), 1)
        features = [
            field_features(name, encoder, steps, shape)
            for name, encoder in zip(self.fields, self.field_encoders, strict=True)
        ]
        # (token, batch, 1, hidden) -> (batch, token, width)
        vectors: Tensor = self.projection(torch.stack(features).flatten(1, 2))
        return vectors
