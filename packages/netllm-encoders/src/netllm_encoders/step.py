"""The tokens of one step of an episode."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from netllm_encoders.fields import field_encoder, field_features
from netllm_encoders.projection import Projection
from netllm_encoders.scalar import Scalar


class Step(nn.Module):
    """The tokens of a step: its return-to-go, one per declared field, its action.

    Args:
        width: The backbone's embedding width.
        fields: Per field of the observation its `kind` (`scalar`, `series`, or any kind that is
            registered, see `FieldEncoder`) and that kind's settings, in the order of the tokens.
            Fields of an observation that are not declared are not used.
        actions: Number of actions; an action is an index below it.
        return_scale: Divides the return-to-go; in the reward's unit.
        hidden: Number of features of a field before they are projected to `width`.
        gain: Standard deviation within a token vector at the start, see `Projection`.

    Raises:
        ValueError: If a field's kind or setting is unknown or out of range.
        ModuleNotFoundError: If a kind needs an extra that is not installed.

    Source: NetLLM (Wu et al., SIGCOMM 2024), sections 4.1 and 4.3. Its public code adds a learned
    embedding of the step's index; declare a field that tells the position instead
    (`chunks_left`), which is bounded.
    """

    def __init__(
        self,
        *,
        width: int,
        fields: Mapping[str, Mapping[str, Any]],
        actions: int,
        return_scale: float = 1.0,
        hidden: int = 128,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self._config = {
            "width": width,
            "fields": {name: dict(settings) for name, settings in fields.items()},
            "actions": actions,
            "return_scale": return_scale,
            "hidden": hidden,
            "gain": gain,
        }
        self.width = width
        self.fields = tuple(fields)
        self.tokens = 1 + len(fields)
        self.return_encoder = Scalar(hidden=hidden, scale=return_scale)
        self.field_encoders = nn.ModuleList(
            field_encoder(name, settings, hidden=hidden)  # type: ignore[misc]
            for name, settings in fields.items()
        )
        self.projection = Projection(hidden=hidden, width=width, tokens=self.tokens, gain=gain)
        self.action_embedding = nn.Embedding(actions, hidden)
        self.action_projection = Projection(hidden=hidden, width=width, gain=gain)

    def config(self) -> dict[str, Any]:
        """The settings, ready for JSON: `Step(**config)` is the same encoder with new weights."""
        return copy.deepcopy(self._config)

    def observe(
        self, observation: Mapping[str, Any], return_to_go: Num[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step token width"]:
        """The return token, then one token per field in the declared order.

        Args:
            observation: Per field its values, `(batch, step, …)`; all finite (not checked).
            return_to_go: Sum of the rewards that are to come, in the reward's unit.

        Raises:
            ValueError: If a declared field is missing or its values have another shape.
        """
        features = [self.return_encoder(return_to_go)]
        for name, encoder in zip(self.fields, self.field_encoders, strict=True):
            features.append(field_features(name, encoder, observation, return_to_go.shape))
        # (token, batch * step, hidden) -> (batch * step, token, width)
        vectors: Tensor = self.projection(torch.stack(features).flatten(1, 2))
        return vectors.view(*return_to_go.shape, self.tokens, self.width)

    def act(
        self, action: Int[Tensor, "batch step"], observation: Mapping[str, Any] | None = None
    ) -> Float[Tensor, "batch step 1 width"]:
        """The action token of every step, whatever was observed.

        Raises:
            IndexError: If an action is not an index below `actions` (on the CPU; an accelerator
                fails in its own words).
        """
        try:
            features = self.action_embedding(action)
        except IndexError as error:
            raise IndexError(
                f"an action must lie between 0 and {self.action_embedding.num_embeddings - 1}, "
                f"got {int(action.min())} to {int(action.max())}. "
                "Was the encoder built for another ladder?"
            ) from error
        vectors: Tensor = self.action_projection(features.flatten(0, 1)[None])
        return vectors.view(*action.shape, 1, self.width)
