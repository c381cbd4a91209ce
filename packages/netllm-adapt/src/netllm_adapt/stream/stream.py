"""Decisions one step at a time, with the keys and values of the last window kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netllm_adapt.attention import Ring, as_told, band, cache_argument
from netllm_adapt.batches import select
from netllm_adapt.episodes import Ragged
from netllm_adapt.llama.inference import LeanPass, serves
from netllm_adapt.lora import mixes
from netllm_adapt.model.base import check_positions
from netllm_adapt.model.decider import AdaptedModel

Piece = tuple[int, Float[Tensor, "token width"]]
"""Some tokens of one step, and its number."""


class Feed(NamedTuple):
    """What a stream passes through the backbone for one step."""

    tokens: Float[Tensor, "batch token width"]
    """New ones, padded at the end of their rows."""
    position: Int[Tensor, "batch token"]
    """-1 of padding."""
    mask: Bool[Tensor, "batch 1 token slot"]
    lengths: list[tuple[int, int]]
    """Per row its tokens, and those of the new observation, which come last."""
    observation: Mapping[str, Tensor | Ragged]
    ptr: Int[Tensor, "offset"] | None
    """Of the observation's tokens where their number differs."""


class _Row:
    """One episode of a stream: its last window of steps, and how far its segment has come."""

    def __init__(self, window: int) -> None:
        self.past: deque[Piece] = deque(maxlen=window)
        self.observed: Tensor | None = None
        self.used = 0
        self.position = 0


class DecisionStream:
    """Decide step after step for a batch of episodes that run side by side.

    Only the new step's tokens pass through the backbone: the action before, the return-to-go and
    the observation. When `model.segment` tokens are full, an episode starts afresh by encoding its
    last window of steps again, exactly as training rows are cut, so that both see the same
    contexts. Steps may differ in their number of tokens, and episodes may end one by one.

    Args:
        model: the adapted model, in eval mode.
        batch: number of episodes.
        lean: pass the tokens through `LeanPass`, with the backbone's weights of this moment, rather
            than through the backbone's own modules; None does so where it covers the backbone,
            until its rows mix `adapters`: so not for a member of `Together` whose adapter is not
            the active one.

    Raises:
        ValueError: if `batch` is below 1, or `lean` is asked for and does not cover the backbone,
            here or at a decision.
    """

    def __init__(self, model: AdaptedModel, *, batch: int, lean: bool | None = None) -> None:
        if batch < 1:
            raise ValueError(f"`batch` must be at least 1 episode, got {batch}.")
        self._model = model
        self.ring = Ring(batch=batch, device=model.device)
        self._rows = [_Row(model.window) for _ in range(batch)]
        self._seen: Mapping[str, Tensor | Ragged] = {}
        self._step = 0
        self._cache_name = cache_argument(model.backbone)
        self._wanted = lean
        self._lean: LeanPass | None = None
        with model.own_adapter(batch):
            if serves(model.backbone, lean):
                self._lean = LeanPass(model.backbone, batch=batch)

    def keep(self, rows: Int[Tensor, "row"]) -> None:
        """Go on with some of the episodes only, by their numbers among the present ones.

        Raises:
            ValueError: if they are not whole numbers of present episodes, each once, or none is
                left.
        """
        self._rows = [self._rows[row] for row in chosen(rows, len(self._rows))]
        self._seen = select(self._seen, rows)
        self.ring.keep(rows)
        if self._lean is not None:
            self._lean.keep(rows)

    @torch.inference_mode()
    def decide(
        self,
        observation: Mapping[str, Tensor | Ragged],
        return_to_go: Float[Tensor, "batch"],
        previous_action: Int[Tensor, "batch ..."] | None,
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The next answer of every episode.

        Args:
            observation: fields with a leading batch axis, or with one entry of `ptr` per episode.
            return_to_go: what is still to be earned, per episode.
            previous_action: what was done at the step before; None at the first step only.
            greedy: the most likely answer, else a sampled one.
            generator: randomness of sampled answers.

        Raises:
            ValueError: if a row comes to be longer than the backbone's learned positions.
        """
        feed = self.feed(observation, return_to_go, previous_action)
        return self.answer(self._through(feed), feed, greedy=greedy, generator=generator)

    @torch.inference_mode()
    def hidden(
        self,
        observation: Mapping[str, Tensor | Ragged],
        return_to_go: Float[Tensor, "batch"],
        previous_action: Int[Tensor, "batch ..."] | None,
    ) -> Any:
        """Hidden states of the new observation's tokens, as `AdaptedModel.hidden` gives them."""
        feed = self.feed(observation, return_to_go, previous_action)
        return _read(self._through(feed), feed)

    def feed(
        self,
        observation: Mapping[str, Tensor | Ragged],
        return_to_go: Float[Tensor, "batch"],
        previous_action: Int[Tensor, "batch ..."] | None,
    ) -> Feed:
        """The new step's tokens; their slots are taken from now on."""
        given = {"return_to_go": return_to_go, "previous_action": previous_action, **observation}
        for name, value in given.items():
            if value is not None and (count := _episodes(value)) != len(self._rows):
                raise ValueError(
                    f"The stream was made for {len(self._rows)} episodes, got an observation of "
                    f"{count}: `{name}`."
                )
        if (previous_action is None) != (self._step == 0):
            raise ValueError("`previous_action` must be None at the first step, and only there.")
        self._leave_lean()
        steps = {
            name: value if isinstance(value, Ragged) else value[:, None]
            for name, value in observation.items()
        }
        observed = self._model.encoder.observe(steps, return_to_go[:, None])
        each = _each(observed, self._model.dtype)
        pieces = [
            [*before, (self._step, own)]
            for before, own in zip(
                self._new_pieces(each, self._acted(previous_action)), each, strict=True
            )
        ]
        for row, own in zip(self._rows, each, strict=True):
            row.observed = own
        self._seen = steps
        self._step += 1
        ptr = None if isinstance(observed, Tensor) else observed[1]
        return self._place(pieces, steps, ptr)

    def answer(
        self,
        hidden: Float[Tensor, "batch token width"],
        feed: Feed,
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The answers that the head reads of the hidden states of what was fed."""
        answer: Tensor = self._model.head.answer(
            _read(hidden, feed), feed.observation, greedy=greedy, generator=generator
        )
        return answer[:, 0]

    def _acted(self, action: Int[Tensor, "batch ..."] | None) -> Tensor | None:
        """The tokens of the actions that answered what was seen before."""
        if action is None:
            return None
        token: Tensor = self._model.encoder.act(action[:, None], self._seen)
        return token[:, 0].to(self._model.dtype)

    def _new_pieces(
        self, observed: list[Tensor], acted: Float[Tensor, "batch 1 width"] | None
    ) -> list[list[Piece]]:
        """What to feed before the new observations: the last action, or a window at a restart."""
        pieces: list[list[Piece]] = []
        for number, (row, own) in enumerate(zip(self._rows, observed, strict=True)):
            feed: list[Piece] = []
            if acted is not None and row.observed is not None:
                whole = torch.cat([row.observed, acted[number]])
                row.past.append((self._step - 1, whole))
                feed = [(self._step - 1, acted[number])]
            size = len(own) + 1
            if row.used and row.used + size > self._model.segment:
                self.ring.clear(number)
                row.used = row.position = 0
                feed = list(row.past)
            row.used += size
            pieces.append(feed)
        return pieces

    def _place(
        self,
        pieces: list[list[Piece]],
        observation: Mapping[str, Tensor | Ragged],
        ptr: Int[Tensor, "offset"] | None,
    ) -> Feed:
        """The pieces in padded rows, with their positions and slots."""
        rows = [torch.cat([tokens for _, tokens in row]) for row in pieces]
        longest = max(map(len, rows))
        steps, positions = [], []
        for row, parts, tokens in zip(self._rows, pieces, rows, strict=True):
            padding = [-1] * (longest - len(tokens))
            numbers = [step for step, some in parts for _ in range(len(some))]
            steps.append(numbers + padding)
            end = row.position + len(tokens)
            positions.append([*range(row.position, end), *padding])
            row.position = end
        check_positions(self._model.backbone, max(row.position for row in self._rows))
        step, position = torch.tensor([steps, positions], device=self._model.device)
        ring, window = self.ring, self._model.window
        ring.place(step, position, window=window)
        mask = band(step, position, ring.step, ring.position, window=window)
        mask[..., 0] |= (position < 0)[:, None]  # padding sees something, or attention is undefined
        lengths = [
            (len(tokens), len(parts[-1][1])) for tokens, parts in zip(rows, pieces, strict=True)
        ]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return Feed(padded, position, mask, lengths, observation, ptr)

    def _leave_lean(self) -> None:
        """Go on through the library's pass, with what was seen, if rows mix adapters now."""
        backbone = self._model.backbone
        if self._lean is None or not mixes(backbone) or serves(backbone, self._wanted):
            return
        self.ring.fill(self._lean.seen())
        self._lean = None

    def _through(self, feed: Feed) -> Float[Tensor, "batch token width"]:
        if self._lean is not None:
            return self._lean(feed.tokens, feed.mask, feed.position, self.ring.target)
        with self._model.own_adapter(len(feed.tokens)):
            out = self._model.backbone(
                inputs_embeds=feed.tokens,
                attention_mask=as_told(self._model.backbone, feed.mask, feed.tokens.dtype),
                position_ids=feed.position.clamp(min=0),
                use_cache=True,
                **{self._cache_name: self.ring},
            )
        hidden: Tensor = out.last_hidden_state
        return hidden


def chosen(rows: Int[Tensor, "row"], count: int) -> list[int]:
    """The numbers of the rows of `count` that are kept.

    Raises:
        ValueError: if one is none of them or comes twice, or there is no row.
    """
    numbers: list[Any] = rows.tolist()
    whole = not (rows.is_floating_point() or rows.dtype == torch.bool) and rows.ndim == 1
    if not (whole and numbers and len({*numbers} & {*range(count)}) == len(numbers)):
        raise ValueError(
            f"`rows` must be numbers from 0 to {count - 1} of the episodes that go on, each once "
            f"and at least one, got {numbers}."
        )
    return numbers


def _episodes(field: Tensor | Ragged) -> int:
    if isinstance(field, Ragged):
        return len(field.ptr) - 1
    return len(field) if field.ndim else 0


def _read(hidden: Float[Tensor, "batch token width"], feed: Feed) -> Any:
    """The hidden states of the new observations, as the encoder gave their tokens."""
    newest = [h[end - own : end] for h, (end, own) in zip(hidden, feed.lengths, strict=True)]
    if feed.ptr is None:
        return torch.stack(newest)[:, None]
    return Ragged(torch.cat(newest), feed.ptr)


def _each(observed: Any, dtype: torch.dtype) -> list[Float[Tensor, "token width"]]:
    """The tokens of every episode's new observation."""
    if isinstance(observed, Tensor):
        return list(observed[:, 0].to(dtype))
    values, ptr = observed
    return list(values.to(dtype).split((ptr[1:] - ptr[:-1]).tolist()))
