"""The adapted model of a supervised task: one pass over an observation, one answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from netllm_adapt.backbone import embedding_width
from netllm_adapt.batches import ExampleBatch, Examples
from netllm_adapt.llama.packed_weights import lean_pass
from netllm_adapt.lora import mixes
from netllm_adapt.model.base import Adapted, BackboneInput
from netllm_adapt.observations import as_tensor, check_finite


class Predictor(Adapted):
    """One language model adapted to one supervised task.

    An observation becomes a short row of tokens; the head reads the whole answer, such as a
    horizon of positions, from the hidden state of the last one, or of as many of the last ones as
    the head's `reads` says. So an answer costs one pass.

    Source: DESIGN decision 2. The public code of NetLLM generates one future position per pass.
    """

    kind = "predictions"

    def rows(self, experience: Examples) -> Examples:
        """What is learned of examples: each of them."""
        return experience

    def backbone_input(self, batch: ExampleBatch) -> BackboneInput:
        """The tokens of a batch, as they pass through the backbone."""
        return self.input_of(batch.observations)

    def input_of(self, observation: Mapping[str, Tensor]) -> BackboneInput:
        """The tokens of observations, as they pass through the backbone."""
        return self._of_tokens(self.encoder.observe(observation).to(self.dtype))

    def hidden_of(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "batch *reads width"]:
        """What the head reads of observations, in the backbone's dtype, for a loop of one's own.

        Where gradients are asked for, it comes from the lean training pass if that covers the
        backbone.
        """
        states: Float[Tensor, "batch *reads width"] = self.pass_through(self.input_of(observation))
        return states

    def blank_input(self, rows: int, tokens: int) -> BackboneInput:
        """See `Adapted`."""
        zero = torch.zeros((), dtype=self.dtype, device="cpu")
        return self._of_tokens(zero.expand(rows, tokens, embedding_width(self.backbone)))

    def longest_row(self, steps: int | None = None) -> int:
        """See `Adapted`: the tokens of an observation.

        Raises:
            ValueError: if the encoder does not tell them.
        """
        tokens: int | None = getattr(self.encoder, "tokens", None)
        if tokens is None:
            raise ValueError(
                f"{type(self.encoder).__name__} must have `tokens`, how many it makes of an "
                "observation, for the model to be planned. Add that attribute."
            )
        return tokens

    def _of_tokens(self, tokens: Float[Tensor, "batch token width"]) -> BackboneInput:
        position = torch.arange(tokens.shape[1], device=tokens.device)[None]
        mask = position[:, None] <= position[:, :, None]
        reads = getattr(self.head, "reads", None) or 1
        states = (lambda h: h) if reads > 1 else (lambda h: h[:, 0])
        return BackboneInput(tokens, mask[:, None], position, states, position[0, -reads:])


class Forecast:
    """A predictor as a policy: `reset(seed)` and `act(observation)`.

    Args:
        model: the predictor; it is put into eval mode.
        lean: pass tokens through `LeanPass`, with the weights of this moment, rather than through
            the backbone's own modules; None does so where it covers the backbone, and where its
            rows do not mix `adapters` then: so not for a member of `Together` whose adapter is not
            the active one.
        probabilities: answer with the probabilities of the head's answers, rather than with the
            most probable one.

    Raises:
        ValueError: if `lean` is asked for and does not cover the backbone.
    """

    def __init__(
        self, model: Predictor, *, lean: bool | None = None, probabilities: bool = False
    ) -> None:
        self._model = model.eval()
        self._probabilities = probabilities
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
        lean = None if mixes(model.backbone) else self._lean
        hidden = model.pass_through(model.input_of(fields), lean)
        answer: Tensor = model.head.answer(hidden, fields)
        if self._probabilities:
            answer = model.head.distribution(hidden, fields).softmax(-1)
        array: np.ndarray = answer.cpu().numpy()
        return array
