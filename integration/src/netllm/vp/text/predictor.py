"""A language model that answers in its own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from netllm_adapt import Predictor
from netllm_adapt.attention import cache_argument, check_positions
from netllm_adapt.backbone import load_tokenizer
from netllm_adapt.batches import ExampleBatch
from torch import Tensor, nn


class TextPredictor(Predictor):
    """One language model that answers a supervised task in its own words.

    The encoder may give tokens, text (`text(observation)`) or both; the head says which text is
    the right answer. The loss of an example is the mean cross-entropy of the tokens of its answer,
    end marker included.

    Raises:
        ValueError: if the backbone's LM head is not its token embedding: ours are kept without one.
    """

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        config: Any = self.backbone.config
        if not config.tie_word_embeddings:
            raise ValueError(
                f"Answers as text need a backbone whose LM head is tied to its token embedding; "
                f"that of {self.spec.name!r} is not. Choose another, such as smollm2-135m."
            )

    @classmethod
    def of(cls, model: Predictor) -> Self:
        """The parts of a model that was loaded as a plain predictor."""
        return cls(
            backbone=model.backbone,
            encoder=model.encoder,
            head=model.head,
            spec=model.spec,
            **{name: getattr(model, name) for name in model.fields},
        ).eval()

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Self:
        """Read a checkpoint folder; see `Predictor.from_pretrained`."""
        return cls.of(Predictor.from_pretrained(folder, **options))

    @cached_property
    def tokenizer(self) -> Any:
        """The backbone's own."""
        return load_tokenizer(self.spec.name)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts as tokens of the tokenizer, without any of its marks."""
        found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return found

    def answers(self, future_deg: Float[Tensor, "batch horizon 3"]) -> list[list[int]]:
        """The right answers as tokens, with the end marker."""
        return [[*ids, self._end] for ids in self.ids(self.head.texts(future_deg))]

    def forward(self, batch: ExampleBatch) -> Float[Tensor, "batch"]:
        """The mean cross-entropy of the tokens of each answer."""
        prompts, answers = self._prompts(batch.observations), self.answers(batch.labels)
        ids = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        labels = [[-100] * len(p) + answer for p, answer in zip(prompts, answers, strict=True)]
        prefix = self.encoder.observe(batch.observations).to(self.dtype)
        # Padding sits behind every real token, so that causality hides it.
        tokens = torch.cat([prefix, self._embed(_padded(ids, self._end, self.device))], dim=1)
        check_positions(self.backbone, tokens.shape[1])
        out: Any = self.backbone(inputs_embeds=tokens, use_cache=False)
        before = prefix.shape[1]
        targets = F.pad(_padded(labels, -100, self.device), (before, 0), value=-100)[:, 1:]
        asked = targets != -100
        logits = self._logits(out.last_hidden_state[:, :-1][asked]).float()
        losses = torch.zeros(targets.shape, device=self.device)
        losses[asked] = F.cross_entropy(logits, targets[asked], reduction="none")
        return losses.sum(dim=1) / asked.sum(dim=1)

    @torch.inference_mode()
    def write(self, observation: Mapping[str, Tensor], *, tokens: int | None = None) -> list[str]:
        """The likeliest answers, token by token, with keys and values kept.

        Args:
            observation: as tensors.
            tokens: write exactly so many, whatever they are; None: up to the end marker, and at
                most as many as the longest valid answer has.
        """
        from transformers import DynamicCache

        new, mask, position = self._left_padded(observation)
        cache = {cache_argument(self.backbone): DynamicCache(), "use_cache": True}
        limit = tokens or len(self.ids([self.head.longest])[0]) + 1
        check_positions(self.backbone, new.shape[1] + limit - 1)
        chosen: list[Tensor] = []
        done = torch.zeros(len(new), dtype=torch.bool, device=self.device)
        for _ in range(limit):
            out: Any = self.backbone(
                inputs_embeds=new, attention_mask=mask, position_ids=position, **cache
            )
            chosen.append(self._logits(out.last_hidden_state[:, -1]).argmax(dim=-1))
            done |= chosen[-1] == self._end
            if tokens is None and done.all():
                break
            new = self._embed(chosen[-1][:, None])
            mask = None if mask is None else F.pad(mask, (0, 1), value=1)
            position = position[:, -1:] + 1
        return [self._text(row) for row in torch.stack(chosen, dim=1).tolist()]

    @property
    def _end(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def _prompts(self, observation: Mapping[str, Tensor]) -> list[list[int]]:
        told = getattr(self.encoder, "text", None)
        texts = [""] * len(observation["viewport_deg"]) if told is None else told(observation)
        return self.ids([text + self.head.cue for text in texts])

    def _left_padded(
        self, observation: Mapping[str, Tensor]
    ) -> tuple[Tensor, Int[Tensor, "batch token"] | None, Int[Tensor, "batch token"]]:
        """Token vectors that all end where the answer begins, their mask and positions."""
        prefix = self.encoder.observe(observation).to(self.dtype)
        parts = [
            torch.cat([own, self._embed(torch.tensor(ids, device=self.device))])
            for own, ids in zip(prefix, self._prompts(observation), strict=True)
        ]
        lengths = torch.tensor([len(part) for part in parts], device=self.device)
        longest = int(lengths.max())
        tokens = torch.stack([F.pad(part, (0, 0, longest - len(part), 0)) for part in parts])
        position = torch.arange(longest, device=self.device) - (longest - lengths)[:, None]
        # Rows of one length need no mask, and are faster without.
        mask = None if bool((lengths == longest).all()) else (position >= 0).long()
        return tokens, mask, position.clamp(min=0)

    def _text(self, ids: list[int]) -> str:
        kept = ids[: ids.index(self._end)] if self._end in ids else ids
        text: str = self.tokenizer.decode(kept)
        return text

    @property
    def _embedding(self) -> nn.Embedding:
        plain: Any = self.backbone
        embedding: nn.Embedding = plain.get_input_embeddings()
        return embedding

    def _embed(self, ids: Int[Tensor, "*any"]) -> Float[Tensor, "*any width"]:
        vectors: Tensor = self._embedding(ids)
        return vectors

    def _logits(self, hidden: Float[Tensor, "*any width"]) -> Float[Tensor, "*any word"]:
        return F.linear(hidden, self._embedding.weight)


def _padded(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], device=device)
