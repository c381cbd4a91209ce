"""Decisions one step at a time, with the keys and values of the last window kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from netllm_adapt.attention import Ring, band, cache_argument
from netllm_adapt.lean import LeanPass, uncovered
from netllm_adapt.model import AdaptedModel


class DecisionStream:
    """Decide step after step for a batch of episodes that run side by side.

    Only the new step's tokens pass through the backbone: the action before, the return-to-go and
    the observation. After `model.segment` tokens the stream starts afresh by encoding its last
    window of steps again, exactly as training rows are cut, so that both see the same contexts.

    Args:
        model: the adapted model, in eval mode.
        batch: number of episodes.
        lean: pass the tokens through `LeanPass`, with the backbone's weights of this moment, rather
            than through the backbone's own modules; None does so where it covers the backbone.

    Raises:
        ValueError: if `lean` is asked for and does not cover the backbone.
    """

    def __init__(self, model: AdaptedModel, *, batch: int, lean: bool | None = None) -> None:
        self._model = model
        self._batch = batch
        self._per_step = model.tokens_per_step
        self._ring = Ring(slots=(model.window + 1) * self._per_step, device=model.device)
        self._past: deque[Float[Tensor, "batch token width"]] = deque(maxlen=model.window)
        self._observed: Float[Tensor, "batch token width"] | None = None
        self._step = 0
        self._begun_at = 0
        self._position = 0
        self._cache_name = cache_argument(model.backbone)
        self._lean = self._lean_pass(lean)

    def _lean_pass(self, wanted: bool | None) -> LeanPass | None:
        if wanted is False:
            return None
        model = self._model
        if (reason := uncovered(model.backbone)) is not None:
            if wanted:
                raise ValueError(
                    f"`lean` must be None or False for this backbone: {reason}. "
                    "The library's own pass serves it."
                )
            return None
        return LeanPass(
            model.backbone,
            batch=self._batch,
            slots=self._ring.slots,
            positions=(model.segment_steps + model.window + 1) * self._per_step,
        )

    @torch.inference_mode()
    def decide(
        self,
        observation: Mapping[str, Tensor],
        return_to_go: Float[Tensor, "batch"],
        previous_action: Int[Tensor, "batch"] | None,
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The next answer of every episode.

        Args:
            observation: fields with a leading batch axis.
            return_to_go: what is still to be earned, per episode.
            previous_action: what was done at the step before; None at the first step only.
            greedy: the most likely answer, else a sampled one.
            generator: randomness of sampled answers.
        """
        steps = {name: value[:, None] for name, value in observation.items()}
        hidden = self.hidden(steps, return_to_go[:, None], previous_action)
        answer: Tensor = self._model.head.answer(hidden, steps, greedy=greedy, generator=generator)
        return answer[:, 0]

    @torch.inference_mode()
    def hidden(
        self,
        observation: Mapping[str, Tensor],
        return_to_go: Float[Tensor, "batch 1"],
        previous_action: Int[Tensor, "batch"] | None,
    ) -> Float[Tensor, "batch 1 token width"]:
        """Hidden states of the new observation's tokens, as `AdaptedModel.hidden` gives them."""
        encoder = self._model.encoder
        observed = encoder.observe(observation, return_to_go)[:, 0].to(self._model.dtype)
        if len(observed) != self._batch:
            raise ValueError(
                f"The stream was made for {self._batch} episodes, got an observation of "
                f"{len(observed)}."
            )
        tokens = [*self._finish_step(previous_action), observed]
        hidden = self._pass(torch.cat(tokens, dim=1))[:, -observed.shape[1] :]
        self._observed = observed
        self._step += 1
        return hidden[:, None]

    def _finish_step(self, action: Int[Tensor, "batch"] | None) -> list[Tensor]:
        """What to feed before the new observation: the last action, or a window at a restart."""
        if (action is None) != (self._observed is None):
            raise ValueError("`previous_action` must be None at the first step, and only there.")
        if action is None or self._observed is None:
            return []
        token = self._model.encoder.act(action[:, None])[:, 0].to(self._model.dtype)
        self._past.append(torch.cat([self._observed, token], dim=1))
        if self._step - self._begun_at < self._model.segment_steps:
            return [token]
        self._ring.clear()
        self._begun_at = self._step
        self._position = 0
        return list(self._past)

    def _pass(
        self, tokens: Float[Tensor, "batch token width"]
    ) -> Float[Tensor, "batch token width"]:
        count = tokens.shape[1]
        position = torch.arange(self._position, self._position + count, device=tokens.device)
        # Counted back from the last token: the action that leads belongs to the step before.
        back = torch.arange(count, device=tokens.device).flip(0) + 1
        step = self._step - back // self._per_step
        self._ring.place(step, position)
        mask = band(step, position, self._ring.step, self._ring.position, window=self._model.window)
        begin, self._position = self._position, self._position + count
        if self._lean is not None:
            return self._lean(tokens, mask, begin, self._ring.target)
        out = self._model.backbone(
            inputs_embeds=tokens,
            attention_mask=mask,
            position_ids=position[None],
            use_cache=True,
            **{self._cache_name: self._ring},
        )
        hidden: Tensor = out.last_hidden_state
        return hidden
