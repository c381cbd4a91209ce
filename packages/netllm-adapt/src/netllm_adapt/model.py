"""The adapted model: encoder, frozen backbone with low-rank matrices, head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from netllm_adapt.adapted import Adapted, BackboneSpec
from netllm_adapt.attention import band
from netllm_adapt.segments import Batch, steps_per_segment


class Encoder(Protocol):
    """What a multimodal encoder must offer; it is also a `torch.nn.Module`."""

    tokens: int
    """Tokens of one observation, the return-to-go included."""

    def observe(
        self, observation: Mapping[str, Tensor], return_to_go: Float[Tensor, "batch step"]
    ) -> Float[Tensor, "batch step token width"]:
        """The tokens of return-to-go and observation."""
        ...

    def act(self, action: Int[Tensor, "batch step"]) -> Float[Tensor, "batch step 1 width"]:
        """The token of an action."""
        ...

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild it."""
        ...


class Head(Protocol):
    """What a networking head must offer; it is also a `torch.nn.Module`."""

    def loss(
        self,
        hidden: Float[Tensor, "batch step token width"],
        observation: Mapping[str, Tensor],
        label: Tensor,
    ) -> Float[Tensor, "batch step"]:
        """The loss of each step."""
        ...

    def answer(
        self,
        hidden: Float[Tensor, "batch step token width"],
        observation: Mapping[str, Tensor],
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A valid answer for each step."""
        ...

    def config(self) -> dict[str, Any]:
        """The arguments that rebuild it."""
        ...


class AdaptedModel(Adapted):
    """One language model adapted to one task.

    A row of tokens is consecutive steps of one episode: return-to-go, observation, action. Token i
    attends token j under `netllm_adapt.attention.band`. The head reads the hidden states of each
    step's observation; the action comes after them and is seen by later steps only.

    Args:
        backbone: a frozen causal language model without LM head, with adapter (`add_lora`).
        encoder: observations to tokens of the backbone's width.
        head: hidden states to answers.
        spec: where the backbone came from; goes into the checkpoint.
        window: how many steps a token may look back, its own included.
        segment: tokens after which a stream of decisions starts afresh, and longest learned row.
        target_return: return asked for at the first decision of an episode.
        task: what the checkpoint is for (task, setting, seed, metrics); goes into its card.

    Raises:
        ValueError: if the encoder's width is not the backbone's, a step does not fit into a
            segment, or a segment with its context is longer than the backbone's positions.
    """

    fields = ("window", "segment", "target_return", "task")

    def __init__(
        self,
        *,
        backbone: nn.Module,
        encoder: nn.Module,
        head: nn.Module,
        spec: BackboneSpec,
        window: int = 20,
        segment: int = 384,
        target_return: float = 0.0,
        task: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone=backbone, encoder=encoder, head=head, spec=spec, task=task)
        self.window = window
        self.segment = segment
        self.target_return = target_return
        self._check()

    def _check(self) -> None:
        if self.window < 1:
            raise ValueError(f"`window` must be at least 1 step, got {self.window}.")
        longest = (self.segment_steps + self.window) * self.tokens_per_step
        limit = getattr(self.backbone.config, "max_position_embeddings", None)
        if limit is not None and longest > limit:
            raise ValueError(
                f"A segment of {self.segment} tokens and its window of {self.window} steps may be "
                f"{longest} tokens long, but {self.spec.name!r} has only {limit} positions. "
                "Lower `segment` or `window`."
            )

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step: return-to-go, observation, action."""
        return int(self.encoder.tokens) + 1

    @property
    def segment_steps(self) -> int:
        """Steps of one segment."""
        return steps_per_segment(self.segment, self.tokens_per_step)

    def hidden(self, batch: Batch) -> Float[Tensor, "batch step token width"]:
        """Hidden states of the observation tokens of every step, in one pass."""
        observed = self.encoder.observe(batch.observations, batch.returns)
        tokens = torch.cat([observed, self.encoder.act(batch.actions)], dim=2)
        rows, steps, per_step, width = tokens.shape
        position = torch.arange(steps * per_step, device=tokens.device)
        step = position // per_step
        out = self.backbone(
            inputs_embeds=tokens.reshape(rows, -1, width).to(self.dtype),
            attention_mask=band(step, position, step, position, window=self.window),
            position_ids=position[None],
            use_cache=False,
        )
        hidden: Tensor = out.last_hidden_state.view(rows, steps, per_step, -1)[:, :, :-1]
        return hidden

    def forward(self, batch: Batch) -> Float[Tensor, "batch step"]:
        """The loss of each step; zero where the step is context or padding."""
        loss = self.head.loss(self.hidden(batch), batch.observations, batch.labels)
        return torch.where(batch.learn, loss, 0.0)
