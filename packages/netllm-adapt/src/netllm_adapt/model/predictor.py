"""The adapted model of a supervised task: one pass over an observation, one answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from netllm_adapt.batches import ExampleBatch
from netllm_adapt.llama.packed_weights import lean_pass
from netllm_adapt.lora import mixes
from netllm_adapt.model.base import Adapted, BackboneInput
from netllm_adapt.observations import as_tensor, check_finite


class Predictor(Adapted):
    """One language model adapted to one supervised task.

    An observation becomes a short row of tokens; the head reads the whole answer, such as a
    horizon of positions, from the hidden state of the last one. So an answer costs one pass.

    Source: DESIGN decision 2. The public code of NetLLM generates one future position per pass.
    """

    kind = "predictions"

    def hidden(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "batch width"]:
        """The hidden state of the last token, through the backbone's own modules."""
        hidden: Tensor = self.pass_through(self.input_of(observation))
        return hidden

    def backbone_input(self, batch: ExampleBatch) -> BackboneInput:
        """The tokens of a batch, as they pass through the backbone."""
        return self.input_of(batch.observations)

    def input_of(self, observation: Mapping[str, Tensor]) -> BackboneInput:
        """The tokens of observations, as they pass through the backbone."""
        tokens = self.encoder.observe(observation).to(self.dtype)
        count = tokens.shape[1]
        mask = torch.ones(count, count, dtype=torch.bool, device=tokens.device).tril()
        last = torch.tensor([count - 1], device=tokens.device)
        return BackboneInput(tokens, mask[None, None], lambda hidden: hidden[:, 0], last)

    def forward(self, batch: ExampleBatch) -> Float[Tensor, "batch"]:
        """The loss of each answer."""
        return self.loss(self.hidden(batch.observations), batch)

    def loss(
        self, hidden: Float[Tensor, "batch width"], batch: ExampleBatch
    ) -> Float[Tensor, "batch"]:
        """The loss of each answer from its hidden state."""
        loss: Tensor = self.head.loss(hidden, batch.observations, batch.labels)
        if loss.shape != (len(batch.labels),):
            raise ValueError(
                f"{type(self.head).__name__}.loss must give one loss per answer, "
                f"({len(batch.labels)},), got {tuple(loss.shape)}."
            )
        return loss


class Forecast:
    """A predictor as a policy: `reset(seed)` and `act(observation)`.

    Args:
        model: the predictor; it is put into eval mode.
        lean: pass tokens through `LeanPass`, with the weights of this moment, rather than through
            the backbone's own modules; None does so where it covers the backbone, and where its
            rows do not mix `adapters` then: so not for a member of `Together` whose adapter is not
            the active one.

    Raises:
        ValueError: if `lean` is asked for and does not cover the backbone.
    """

    def __init__(self, model: Predictor, *, lean: bool | None = None) -> None:
        self._model = model.eval()
        with model.own_adapter(1):
            self._lean = lean_pass(model.backbone, lean)

    def reset(self, seed: int) -> None:
        """Begin anew: an answer depends on nothing but its observation."""

    @torch.inference_mode()
    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The answer to every observation of a batch.

        Raises:
            SessionError: if a number is not finite, naming its row and field.
        """
        check_finite(observation)
        model = self._model
        fields = {
            name: as_tensor(values).to(model.device)
            for name, values in observation.items()
            if values.dtype.kind in "biuf"  # names and the like are not for encoders
        }
        given = model.input_of(fields)
        if self._lean is None or mixes(model.backbone):
            hidden = model.pass_through(given)
        else:
            position = torch.arange(given.tokens.shape[1], device=given.tokens.device)[None]
            hidden = given.read_of(self._lean(given.tokens, given.mask, position))
        answer: Tensor = model.head.answer(hidden, fields)
        array: np.ndarray = answer.cpu().numpy()
        return array
