"""Viewport prediction with answers as text: the comparators of the paper's motivation.

`prompt`: the history is text too, so nothing but low-rank matrices is learned. `token`: the history
enters through our encoder, trained along, and only the answer is text. Both use the language
model's own tokenizer and LM head, and learn the next token of the answer; the answer is generated
token by token and parsed. Data, trainer, recipe, checkpoints and metrics are those of `netllm.vp`.

Source: NetLLM (Wu et al., SIGCOMM 2024), section 3 and figure 2. The paper's prompt and its rule
for valid answers are not published; ours are in `netllm.vp.text.parts`. Where an answer is not
valid the last known viewport is held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from netllm_adapt import Predictor, Recipe
from netllm_adapt.attention import cache_argument, check_positions
from netllm_adapt.backbone import load_tokenizer
from netllm_adapt.batches import ExampleBatch
from torch import Tensor, nn

from netllm.vp.task import VP, check_history, check_rate, extended
from netllm.vp.text.parts import Answer, History, read

if TYPE_CHECKING:
    from netllm_sims.vp import Setting

    from netllm.task import Policy

TOGETHER = 16
"""Answers that a policy generates side by side; bounds the memory of keys and values."""


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


class TextPolicy:
    """A text predictor as a policy of any setting; `validity` is the share of valid answers.

    Of a longer history the model reads the last points that it knows; of a longer horizon it
    predicts the rest from its own predictions. For an answer that is not valid the last viewport
    is held.

    Raises:
        ValueError: if the setting has another rate or too short a history.
    """

    def __init__(self, model: TextPredictor, setting: Setting) -> None:
        check_rate(model, setting)
        check_history(model, setting)
        self._model = model.eval()
        self._horizon = setting.horizon
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin to count; the answers themselves are greedy."""
        self.answers = 0
        self.valid = 0

    @property
    def validity(self) -> float:
        """Share of the answers since the last reset that were valid; nan before the first."""
        return self.valid / self.answers if self.answers else float("nan")

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, "batch horizon 3"]:
        """The viewports that follow, in degrees."""
        seen = np.asarray(observation["viewport_deg"], dtype=np.float64)
        return extended(seen, self._horizon, self._answers)

    def _answers(self, seen: np.ndarray) -> np.ndarray:
        parts = [self._answer(seen[i : i + TOGETHER]) for i in range(0, len(seen), TOGETHER)]
        return np.concatenate(parts)

    def _answer(self, seen: np.ndarray) -> np.ndarray:
        horizon = self._model.head.horizon
        fields = {"viewport_deg": torch.from_numpy(seen).float().to(self._model.device)}
        found = [read(text, horizon=horizon) for text in self._model.write(fields)]
        self.answers += len(found)
        self.valid += sum(viewports is not None for viewports in found)
        held = np.repeat(seen[:, -1:], horizon, axis=1)
        return np.stack(
            [last if own is None else own for own, last in zip(found, held, strict=True)]
        )


class Token(VP):
    """Viewport prediction whose answers are text."""

    def head(self, setting: Setting, *, width: int) -> nn.Module:
        """The answer as text."""
        return Answer(width=width, horizon=setting.horizon)

    def assemble(self, recipe: Recipe, **parts: Any) -> TextPredictor:
        """A model that answers token by token."""
        return TextPredictor(**parts)

    def policy(self, model: Predictor, setting: Setting) -> Policy:
        """The model, with the share of its answers that were valid."""
        text = model if isinstance(model, TextPredictor) else TextPredictor.of(model)
        return TextPolicy(text, setting)

    def recipe(self, backbone: str) -> Recipe:
        """All layers, whose LM head it is; rank and rates as for every model."""
        return replace(Recipe(), steps=600, batch=8, micro_batch=4, average=0.98)


class Prompt(Token):
    """Viewport prediction whose history is text too: prompt learning."""

    def encoder(self, setting: Setting, recipe: Recipe, *, width: int) -> nn.Module:
        """The history as text."""
        return History(width=width, history=setting.history)


def train(
    task: Token,
    setting: Setting,
    *,
    out: Path | str,
    backbone: str = "smollm2-135m",
    steps: int | None = None,
    seed: int = 0,
    command: str = "",
    **overrides: Any,
) -> TextPredictor:
    """Train a model that answers as text, and return it; its last checkpoint is the one kept.

    Answers take seconds, so that none is chosen by validation.

    Args:
        task: `Prompt()` or `Token()`.
        setting: whose training part is learned from.
        out: folder of the run, as of `netllm adapt`.
        backbone: has a tokenizer.
        steps: optimiser steps; the recipe's own number if None.
        seed: of everything random.
        command: remembered in the checkpoint.
        overrides: other fields of the recipe.

    Raises:
        ValueError: for values that cannot be, or a folder that holds a run.
    """
    from netllm_adapt import fit_supervised

    from netllm.verbs.adapt import build_model, changed, facts_of

    changes = {"seed": seed, **({} if steps is None else {"steps": steps}), **overrides}
    recipe = changed(task.recipe(backbone), changes)
    plain: Any = task
    model: Any = build_model(plain, setting, backbone, recipe)
    folders = {"trajectories": setting.trajectories, "frames": setting.frames}
    own = {name: folder for name, folder in folders.items() if folder is not None}
    model.state["rate_hz"] = setting.rate_hz
    model.about |= facts_of(plain, setting, [], own)
    model.about |= {"command": command} if command else {}
    fitted: Any = fit_supervised(
        model, task.experience(None, setting, recipe), recipe=recipe, out=out
    )
    return fitted


def train_prompt(setting: Setting, **run: Any) -> TextPredictor:
    """Prompt learning for `netllm train-baseline`; see `train`."""
    return train(Prompt(), setting, **run)


def train_token(setting: Setting, **run: Any) -> TextPredictor:
    """Token-based answers for `netllm train-baseline`; see `train`."""
    return train(Token(), setting, **run)
