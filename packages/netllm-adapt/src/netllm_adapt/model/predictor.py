"""The adapted model of a supervised task: one pass over an observation, one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from netllm_adapt.llama.inference import LeanPass, serves
from netllm_adapt.lora import mixes
from netllm_adapt.model.base import Adapted, Rows
from netllm_adapt.observations import as_tensor, check_finite


class PredictorEncoder(Protocol):
    """What an encoder must offer; it is also a `torch.nn.Module`."""

    def observe(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "batch token width"]:
        """The tokens of an observation; the hidden state of the last one is what the head reads."""
        ...

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild it."""
        ...


class PredictorHead(Protocol):
    """What a head must offer; it is also a `torch.nn.Module`."""

    def loss(
        self,
        hidden: Float[Tensor, "batch width"],
        observation: Mapping[str, Tensor],
        label: Tensor,
    ) -> Float[Tensor, "batch"]:
        """The loss of each answer."""
        ...

    def answer(
        self,
        hidden: Float[Tensor, "batch width"],
        observation: Mapping[str, Tensor],
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A valid answer for each observation, with a leading batch axis."""
        ...

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild it."""
        ...


@dataclass
class Batch:
    """Some examples as tensors."""

    observations: Mapping[str, Tensor]
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        observations = {name: value.to(device) for name, value in self.observations.items()}
        return Batch(observations, self.labels.to(device))


class Examples:
    """Observations with their right answers: what a supervised task is learned from.

    Args:
        observations: fields by name, with a leading axis of examples.
        labels: the right answers, with the same leading axis.

    Raises:
        ValueError: if there are none, or they are not of one length.
    """

    def __init__(self, observations: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        lengths = {name: len(values) for name, values in observations.items()}
        if not len(labels) or set(lengths.values()) != {len(labels)}:
            raise ValueError(
                f"Fields and labels must be of one length above 0, got {lengths} and "
                f"{len(labels)} labels."
            )
        self.observations = dict(observations)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def weight(self, row: int) -> int:
        """How many answers a row teaches."""
        return 1

    def batch(self, rows: Sequence[int]) -> Batch:
        """Some examples as tensors."""
        chosen = np.asarray(rows)
        return Batch(
            {name: as_tensor(values[chosen]) for name, values in self.observations.items()},
            as_tensor(self.labels[chosen]),
        )


class Predictor(Adapted):
    """One language model adapted to one supervised task.

    An observation becomes a short row of tokens; the head reads the whole answer, such as a
    horizon of positions, from the hidden state of the last one. So an answer costs one pass.

    Source: DESIGN decision 2. The public code of NetLLM generates one future position per pass.
    """

    def hidden(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "batch width"]:
        """The hidden state of the last token, through the backbone's own modules."""
        hidden: Tensor = self.pass_alone(self.observed(observation))
        return hidden

    def rows(self, batch: Batch) -> Rows:
        """The tokens of a batch, as they pass through the backbone."""
        return self.observed(batch.observations)

    def observed(self, observation: Mapping[str, Tensor]) -> Rows:
        """The tokens of observations, as they pass through the backbone."""
        tokens = self.encoder.observe(observation).to(self.dtype)
        count = tokens.shape[1]
        mask = torch.ones(count, count, dtype=torch.bool, device=tokens.device).tril()
        last = torch.tensor([count - 1], device=tokens.device)
        return Rows(tokens, mask[None, None], lambda hidden: hidden[:, 0], last)

    def forward(self, batch: Batch) -> Float[Tensor, "batch"]:
        """The loss of each answer."""
        return self.loss(self.hidden(batch.observations), batch)

    def loss(self, hidden: Float[Tensor, "batch width"], batch: Batch) -> Float[Tensor, "batch"]:
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
        model: the predictor, with its weights of this moment; it is put into eval mode.
        lean: pass tokens through `LeanPass` rather than the backbone's own modules; None does so
            where it covers the backbone, and its rows do not mix `adapters`: so not for a member
            of `Together` whose adapter is not the active one.

    Raises:
        ValueError: if `lean` is asked for and does not cover the backbone, here or at an answer.
    """

    def __init__(self, model: Predictor, *, lean: bool | None = None) -> None:
        self._model = model.eval()
        self._wanted = lean
        with model.own_adapter(1):
            self._lean = serves(model.backbone, lean)
        self._passes: dict[tuple[int, int], LeanPass] = {}

    def reset(self, seed: int) -> None:
        """Nothing to begin: an answer depends on nothing but its observation."""

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
        lean = self._lean
        if lean and (model.apart or mixes(model.backbone)):
            with model.own_adapter(1):
                lean = serves(model.backbone, self._wanted)
        hidden = self._hidden(fields) if lean else model.hidden(fields)
        answer: Tensor = model.head.answer(hidden, fields)
        array: np.ndarray = answer.cpu().numpy()
        return array

    def _hidden(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "batch width"]:
        tokens = self._model.encoder.observe(fields).to(self._model.dtype)
        batch, count, _ = tokens.shape
        if (batch, count) not in self._passes:
            self._passes = {(batch, count): LeanPass(self._model.backbone, batch=batch)}
        mask = torch.ones(1, 1, count, count, dtype=torch.bool, device=tokens.device).tril()
        position = torch.arange(count, device=tokens.device)[None]
        return self._passes[batch, count](tokens, mask, position, slice(0, count))[:, -1]
