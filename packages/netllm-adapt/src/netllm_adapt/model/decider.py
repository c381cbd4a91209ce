"""The adapted model: encoder, frozen backbone with low-rank matrices, head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from netllm_adapt.attention import band, check_positions
from netllm_adapt.backbone import embedding_width
from netllm_adapt.batches import Batch, Layout, SegmentedEpisodes, stack
from netllm_adapt.checkpoint.config import BackboneSpec
from netllm_adapt.episodes import Episode, Ragged
from netllm_adapt.model.base import Adapted, BackboneInput


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
        target_return: return asked for at the first decision of an episode; None for a model that
            is never told of returns, as one that imitates a teacher's labels need not be: what an
            episode went on to earn tells of its future, which nobody knows when deciding.
        facts: the base's own: `state`, `about` and `identity`.

    Raises:
        ValueError: if the encoder's width is not the backbone's, a step does not fit into a
            segment, or a segment with its context is longer than the backbone's positions.
    """

    kind = "decisions"
    fields = ("window", "segment", "target_return", *Adapted.fields)

    def __init__(
        self,
        *,
        backbone: nn.Module,
        encoder: nn.Module,
        head: nn.Module,
        spec: BackboneSpec,
        window: int = 20,
        segment: int = 384,
        target_return: float | None = 0.0,
        **facts: Any,
    ) -> None:
        super().__init__(backbone=backbone, encoder=encoder, head=head, spec=spec, **facts)
        self.window = window
        self.segment = segment
        self.target_return = target_return
        self._check()

    def _check(self) -> None:
        if self.window < 1:
            raise ValueError(f"`window` must be at least 1 step, got {self.window}.")
        if self.encoder.tokens is None:
            return
        per_step = self.encoder.tokens + 1
        if self.segment < per_step:
            raise ValueError(
                f"A segment must hold at least one step of {per_step} tokens, "
                f"got segment={self.segment}. Raise `segment`."
            )
        check_positions(self.backbone, self.longest_row())

    def told(self, returns: Float[Tensor, "batch step"]) -> Float[Tensor, "batch step"]:
        """The returns that the encoder is given: zeros if the model is told of none."""
        return torch.zeros_like(returns) if self.target_return is None else returns

    def rows(self, experience: Iterable[Episode]) -> SegmentedEpisodes:
        """What is learned of a pool, or of any episodes."""
        episodes = experience if isinstance(experience, Sequence) else [*experience]
        return SegmentedEpisodes(
            episodes, size=self.sizes, segment=self.segment, window=self.window
        )

    def sizes(self, episode: Episode) -> Int[np.ndarray, "step"]:
        """Tokens of each step of an episode: return-to-go, observation, action."""
        steps = len(episode.rewards)
        if self.encoder.tokens is not None:
            return np.full(steps, self.encoder.tokens + 1)
        fields = {name: stack([field], steps) for name, field in episode.observations.items()}
        counts: Int[np.ndarray, "step"] = self.encoder.count(fields)[0].numpy() + 1
        return counts

    def backbone_input(self, batch: Batch) -> BackboneInput:
        """The tokens of a batch, as they pass through the backbone.

        The head reads the observation tokens of every step, as the encoder gave them: (batch,
        step, token, width), or a `Ragged` pair.
        """
        observed = self.encoder.observe(batch.observations, self.told(batch.returns))
        acted = self.encoder.act(batch.actions, batch.observations)
        if not isinstance(observed, Tensor):
            values, ptr = observed
            layout = Layout(ptr, batch=len(batch.returns))
            tokens = layout.join(values, acted)
            return self._masked(tokens, layout.step, lambda h: Ragged(layout.observed_of(h), ptr))
        return self._of_steps(torch.cat([observed, acted], dim=2))

    def blank_input(self, rows: int, tokens: int) -> BackboneInput:
        """See `Adapted`. Where steps differ in their tokens, each token sees all before it."""
        width = embedding_width(self.backbone)
        zero = torch.zeros((), dtype=self.dtype, device="cpu")
        if self.encoder.tokens is None:
            step = torch.zeros(1, tokens, dtype=torch.long, device="cpu")
            return self._masked(zero.expand(rows, tokens, width), step, lambda hidden: hidden)
        per_step = self.encoder.tokens + 1
        return self._of_steps(zero.expand(rows, -(-tokens // per_step), per_step, width))

    def longest_row(self, steps: int | None = None) -> int:
        """See `Adapted`: a segment after its context, or alone where steps differ in tokens."""
        if self.encoder.tokens is None:
            return self.segment
        per_step = int(self.encoder.tokens) + 1
        most = self.segment // per_step + self.window
        return per_step * (most if steps is None else min(most, steps))

    def _of_steps(self, tokens: Float[Tensor, "batch step token width"]) -> BackboneInput:
        count, steps, per_step, width = tokens.shape
        step = torch.arange(steps, device=tokens.device).repeat_interleave(per_step)
        reads = min(getattr(self.head, "reads", None) or per_step, per_step - 1)
        number = torch.arange(steps * per_step, device=tokens.device).view(steps, per_step)
        return self._masked(
            tokens.flatten(1, 2),
            step[None],
            lambda hidden: hidden.reshape(count, steps, reads, width),
            number[:, -1 - reads : -1].flatten(),
        )

    def _masked(
        self,
        tokens: Tensor,
        step: Int[Tensor, "#row token"],
        read: Callable[[Tensor], Any],
        wanted: Tensor | None = None,
    ) -> BackboneInput:
        position = torch.arange(tokens.shape[1], device=tokens.device)[None]
        mask = band(step, position, step, position, window=self.window)
        return BackboneInput(tokens.to(self.dtype), mask, position, read, wanted)

    def loss(self, hidden: Any, batch: Batch) -> Float[Tensor, "batch step"]:
        """The loss of each step; zero where the step is context or padding."""
        return torch.where(batch.learn, super().loss(hidden, batch), 0.0)
