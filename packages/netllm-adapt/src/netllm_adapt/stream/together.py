"""Several tasks' models over one frozen backbone: their rows pass through it in one batch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from netllm_adapt.attention import check_positions, run_backbone
from netllm_adapt.backbone import is_scratch
from netllm_adapt.lora import active_adapter, adapters, load_lora, save_lora
from netllm_adapt.model.base import Adapted, BackboneInput
from netllm_adapt.model.predictor import Predictor
from netllm_adapt.stream.key_value_ring import Ring
from netllm_adapt.stream.stream import DecisionStream, Feed, numbers_of


class Together(nn.Module):
    """Adapted models that share their frozen backbone; every row uses its own task's adapter.

    The models become parts of this one: their adapters move to the backbone of the first. One that
    is asked directly, or saved, still uses its own adapter.

    Args:
        models: By name, each adapted from the same backbone.

    Raises:
        ValueError: If the backbones differ, or one was trained whole.

    Source: DESIGN, "one LLM, all tasks"; serving many adapters in one batch is S-LoRA's (Sheng et
    al., MLSys 2024).
    """

    def __init__(self, models: Mapping[str, Adapted]) -> None:
        super().__init__()
        self._check(models)
        first, *others = models
        self.models: Any = nn.ModuleDict(models)
        shared: Any = models[first].backbone
        self.backbone = shared
        models[first].adapter = models[first].adapter or active_adapter(shared)
        for name in others:
            model = models[name]
            own: Any = model.backbone
            with tempfile.TemporaryDirectory() as folder:
                save_lora(own, folder, name=model.adapter)
                load_lora(shared, folder, trainable=True, name=name)
            model.backbone, model.adapter = shared, name

    def _check(self, models: Mapping[str, Adapted]) -> None:
        if not models:
            raise ValueError("`models` must hold at least one adapted model, got none.")
        specs = {name: model.spec for name, model in models.items()}
        (first, spec), *others = specs.items()
        for name, other in others:
            if other != spec:
                raise ValueError(
                    f"Models must share one frozen backbone, but {first!r} was adapted from {spec} "
                    f"and {name!r} from {other}. Adapt them with the same backbone and `layers`."
                )
        if is_scratch(spec.name):
            raise ValueError(f"{first!r} has no frozen backbone: {spec.name!r} is trained whole.")

    def route(self, rows: Mapping[str, int]) -> AbstractContextManager[None]:
        """A context in which the backbone's next batch has so many rows of each model, in order."""
        names = [self.models[name].adapter for name, count in rows.items() for _ in range(count)]
        return adapters(self.backbone, names)

    def hidden(self, batches: Mapping[str, Any]) -> dict[str, Any]:
        """What each model's `hidden` gives for its batch, from one pass of all rows.

        Raises:
            ValueError: if there is no batch, or a name is none of the models'.
        """
        _check_names(batches, self.models, "`batches`")
        parts = {name: self.models[name].backbone_input(batch) for name, batch in batches.items()}
        tokens = _padded(part.tokens for part in parts.values())
        mask = torch.cat([_mask(part, tokens.shape[1]) for part in parts.values()])
        counts = {name: len(part.tokens) for name, part in parts.items()}
        with self.route(counts):
            every: Tensor = BackboneInput(tokens, mask, lambda hidden: hidden).through(
                self.backbone
            )
        rows = every.split([*counts.values()])
        return {
            name: part.read_of(own[:, : part.tokens.shape[1]])
            for own, (name, part) in zip(rows, parts.items(), strict=True)
        }

    def forward(self, batches: Mapping[str, Any]) -> dict[str, Tensor]:
        """Each model's losses of its batch."""
        hidden = self.hidden(batches)
        return {
            name: self.models[name].loss(hidden[name], batch) for name, batch in batches.items()
        }


class TogetherStream:
    """Decide for episodes of several tasks that run side by side, in one pass a step.

    Each task's decisions are those of a `DecisionStream` of its own; see there for the arguments
    of a question. A predictor's answers are those of `Forecast`; it remembers nothing.

    Args:
        together: the models, in eval mode.
        batch: number of episodes of each model that decides step after step; of a predictor, the
            number of observations of a question.

    Raises:
        ValueError: if a name is none of the models'.
    """

    def __init__(self, together: Together, *, batch: Mapping[str, int]) -> None:
        self._together = together
        _check_names(batch, together.models, "`batch`")
        self._streams: dict[str, DecisionStream | _Questions] = {}
        for name, count in batch.items():
            model = together.models[name]
            self._streams[name] = (
                _Questions(model, batch=count)
                if isinstance(model, Predictor)
                else DecisionStream(model, batch=count, lean=False)
            )

    def keep(self, name: str, rows: Int[Tensor, "row"]) -> None:
        """Go on with some of a task's episodes only, by their numbers among the present ones."""
        _check_names([name], self._streams, "`name`")
        self._streams[name].keep(rows)

    @torch.inference_mode()
    def decide(
        self,
        questions: Mapping[str, tuple[Any, ...]],
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The next answers of every task that is asked.

        Args:
            questions: by name observation, return-to-go and previous action; of a predictor the
                observation alone.
            greedy: the most likely answers, else sampled ones.
            generator: randomness of sampled answers, drawn in the order of the questions.

        Raises:
            ValueError: if nothing is asked, or a name is none of the streams'.
        """
        _check_names(questions, self._streams, "`questions`")
        feeds = {name: self._streams[name].feed(*asked) for name, asked in questions.items()}
        cache = _Joined([(self._streams[name].ring, feed) for name, feed in feeds.items()])
        tokens = _padded(feed.tokens for feed in feeds.values())
        position = _padded((feed.position for feed in feeds.values()), filler=-1)
        counts = {name: len(feed.tokens) for name, feed in feeds.items()}
        backbone, mask = self._together.backbone, cache.mask(tokens.shape[1])
        with self._together.route(counts):
            hidden = run_backbone(backbone, tokens, mask, position, keys_and_values=cache)
        rows = hidden.split([*counts.values()])
        return {
            name: self._streams[name].answer(own, feed, greedy=greedy, generator=generator)
            for own, (name, feed) in zip(rows, feeds.items(), strict=True)
        }


class _Questions:
    """A predictor among streams: what one question passed is forgotten at the next."""

    def __init__(self, model: Predictor, *, batch: int) -> None:
        self._model = model
        self._batch = batch

    def keep(self, rows: Int[Tensor, "row"]) -> None:
        """Ask of so many observations from now on."""
        self._batch = len(numbers_of(rows, self._batch))

    def feed(self, observation: Mapping[str, Tensor]) -> Feed:
        """The observations' tokens, in the slots of a new ring."""
        tokens = self._model.input_of(observation).tokens
        batch, count, _ = tokens.shape
        if batch != self._batch:
            raise ValueError(f"The predictor's `batch` is {self._batch}, got {batch} observations.")
        check_positions(self._model.backbone, count)
        self.ring = Ring(batch=batch, device=tokens.device)
        position = torch.arange(count, device=tokens.device).repeat(batch, 1)
        mask = self.ring.admit(torch.zeros_like(position), position, window=1)
        return Feed(tokens, position, mask, [(count, 1)] * batch, observation, None)

    def answer(
        self,
        hidden: Float[Tensor, "batch token width"],
        feed: Feed,
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The answers that the head reads of each last token that was fed."""
        answer: Tensor = self._model.head.answer(
            feed.observed(hidden)[:, 0, 0], feed.observation, greedy=greedy, generator=generator
        )
        return answer


def _check_names(names: Iterable[str], known: Iterable[str], what: str) -> None:
    known = list(known)
    names = list(names)
    if not names or set(names) - set(known):
        raise ValueError(f"{what} must name at least one of {known}, and no other, got {names}.")


class _Joined:
    """The rings of several streams, as one cache of the rows that pass together."""

    is_compileable = False

    def __init__(self, parts: list[tuple[Ring, Feed]]) -> None:
        self._parts = parts
        self._slots = max(ring.slots for ring, _ in parts)

    def mask(self, count: int) -> Tensor:
        """Who sees which slot; padding sees slot 0, which nobody else does."""
        masks = []
        for ring, feed in self._parts:
            more = (0, self._slots - ring.slots, 0, count - feed.mask.shape[2])
            mask = F.pad(feed.mask, more)
            mask[:, :, feed.mask.shape[2] :, 0] = True
            masks.append(mask)
        return torch.cat(masks)

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values into their streams' rings."""
        start, both = 0, []
        for ring, feed in self._parts:
            rows = slice(start, start + len(feed.tokens))
            count = feed.tokens.shape[1]
            seen = ring.update(keys[rows, :, :count], values[rows, :, :count], layer_idx)
            both.append([F.pad(part, (0, 0, 0, self._slots - ring.slots)) for part in seen])
            start = rows.stop
        joined_keys, joined_values = (torch.cat(parts) for parts in zip(*both, strict=True))
        return joined_keys, joined_values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens are held."""
        return max(ring.get_seq_length(layer_idx) for ring, _ in self._parts)


def _padded(parts: Iterable[Tensor], filler: float = 0) -> Tensor:
    """The rows of all parts as one batch, each filled up at its end to the longest."""
    rows = [row for part in parts for row in part]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filler)


def _mask(part: BackboneInput, length: int) -> Tensor:
    """The mask for longer rows; padding sees itself, for nothing at all would be undefined."""
    rows, count, _ = part.tokens.shape
    mask = torch.eye(length, dtype=torch.bool, device=part.mask.device).repeat(rows, 1, 1, 1)
    mask[:, :, :count, :count] = part.mask
    return mask
