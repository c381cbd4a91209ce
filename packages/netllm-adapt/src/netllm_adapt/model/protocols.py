"""What an encoder and a head must offer; they are `torch.nn.Module`s besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Encoder(Protocol):
    """The multimodal encoder of a model that decides step after step.

    The tokens of an observation are a tensor (batch, step, token, width), or where their number
    differs from step to step a pair (values, ptr), see `Ragged`, with an entry of `ptr` for every
    step of the batch. Observations hold tensors and such pairs. An encoder whose `tokens` is None
    also has `count(observation)`, the tokens of every observation (batch, step), 0 of padding.
    """

    tokens: int | None
    """Tokens of one observation, the return-to-go included; None if their number differs."""

    def observe(
        self, observation: Mapping[str, Any], return_to_go: Float[Tensor, "batch step"]
    ) -> Any:
        """The tokens of return-to-go and observation."""
        ...

    def act(
        self, action: Int[Tensor, "batch step ..."], observation: Mapping[str, Any]
    ) -> Float[Tensor, "batch step 1 width"]:
        """The token of an action in answer to an observation."""
        ...

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild it."""
        ...


class PredictorEncoder(Protocol):
    """The encoder of a `Predictor`."""

    def observe(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "batch token width"]:
        """The tokens of an observation; the head reads the hidden states of the last ones."""
        ...

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild it."""
        ...


class Head(Protocol):
    """The networking head.

    Hidden states come as the encoder gave the tokens, or the last ones of each observation; of a
    `Predictor` as (batch, width), or (batch, reads, width) if it reads more than one, with losses
    and answers for each row of the batch.
    """

    reads: int | None
    """How many of an observation's last tokens it reads, so that training can leave out what only
    others need; all if None, and for a head without this attribute."""

    def loss(
        self, hidden: Any, observation: Mapping[str, Any], label: Tensor
    ) -> Float[Tensor, "batch *step"]:
        """The loss of each step."""
        ...

    def answer(
        self,
        hidden: Any,
        observation: Mapping[str, Any],
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A valid answer for each step."""
        ...

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild it."""
        ...
