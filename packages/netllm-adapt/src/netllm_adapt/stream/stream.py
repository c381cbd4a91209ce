"""Decisions one step at a time, with the keys and values of the last window remembered."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netllm_adapt.attention import check_positions, run_backbone
from netllm_adapt.batches import select
from netllm_adapt.episodes import Ragged
from netllm_adapt.llama.inference import LeanPass
from netllm_adapt.llama.packed_weights import lean_pass
from netllm_adapt.lora import mixes
from netllm_adapt.model.decider import AdaptedModel
from netllm_adapt.stream.key_value_ring import Ring

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

    def observed(self, hidden: Float[Tensor, "batch token width"]) -> Any:
        """The hidden states of the new observations, as the encoder gave their tokens."""
        newest = [h[end - own : end] for h, (end, own) in zip(hidden, self.lengths, strict=True)]
        if self.ptr is None:
            return torch.stack(newest)[:, None]
        return Ragged(torch.cat(newest), self.ptr)


class _Session:
    """One episode of a stream: its last window of steps, and how far its segment has come."""

    def __init__(self, window: int) -> None:
        self.past: deque[Piece] = deque(maxlen=window)
        self.observed: Tensor | None = None
        self.used = 0
        """Tokens of the steps that began in this segment."""
        self.position = 0
        """Tokens that passed in this segment, its window of context included."""


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
            than through the backbone's own modules; None does so where it covers the backbone, and
            while its rows do not mix `adapters`: so not for a member of `Together` whose adapter is
            not the active one.

    Raises:
        ValueError: if `batch` is below 1, or `lean` is asked for and does not cover the backbone,
            here or at a decision.
    """

    def __init__(self, model: AdaptedModel, *, batch: int, lean: bool | None = None) -> None:
        if batch < 1:
            raise ValueError(f"`batch` must be at least 1 episode, got {batch}.")
        self._model = model
        self._dtype, self._device = model.dtype, model.device
        self.ring = Ring(batch=batch, device=self._device)
        self._sessions = [_Session(model.window) for _ in range(batch)]
        self._seen: Mapping[str, Tensor | Ragged] = {}
        self._step = 0
        self._asked_lean = lean
        with model.own_adapter(batch):
            self._lean = lean_pass(model.backbone, lean)

    def keep(self, rows: Int[Tensor, "row"]) -> None:
        """Go on with some of the episodes only, by their numbers among the present ones.

        Raises:
            ValueError: if they are not whole numbers of present episodes, each once, or none is
                left.
        """
        self._sessions = [self._sessions[row] for row in numbers_of(rows, len(self._sessions))]
        self._seen = select(self._seen, rows)
        self.ring.keep(rows)

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
        lean = self._lean_now()
        feed = self.feed(observation, return_to_go, previous_action)
        hidden = self._through(feed, lean)
        return self.answer(hidden, feed, greedy=greedy, generator=generator)

    @torch.inference_mode()
    def hidden(
        self,
        observation: Mapping[str, Tensor | Ragged],
        return_to_go: Float[Tensor, "batch"],
        previous_action: Int[Tensor, "batch ..."] | None,
    ) -> Any:
        """Hidden states of the new observation's tokens, as `AdaptedModel.hidden` gives them."""
        lean = self._lean_now()
        feed = self.feed(observation, return_to_go, previous_action)
        return feed.observed(self._through(feed, lean))

    def feed(
        self,
        observation: Mapping[str, Tensor | Ragged],
        return_to_go: Float[Tensor, "batch"],
        previous_action: Int[Tensor, "batch ..."] | None,
    ) -> Feed:
        """The new step's tokens; their slots of the ring are taken from now on."""
        given = {"return_to_go": return_to_go, "previous_action": previous_action, **observation}
        for name, value in given.items():
            if value is not None and (count := _episodes(value)) != len(self._sessions):
                raise ValueError(
                    f"The stream was made for {len(self._sessions)} episodes, got an observation "
                    f"of {count}: `{name}`."
                )
        if (previous_action is None) != (self._step == 0):
            raise ValueError("`previous_action` must be None at the first step, and only there.")
        steps = {
            name: value if isinstance(value, Ragged) else value[:, None]
            for name, value in observation.items()
        }
        encoder = self._model.encoder
        observed = encoder.observe(steps, return_to_go[:, None])
        acted: list[Tensor | None] = [None] * len(self._sessions)
        if previous_action is not None:
            acted = [*encoder.act(previous_action[:, None], self._seen)[:, 0].to(self._dtype)]
        pieces = [
            self._new_pieces(number, own, action)
            for number, (own, action) in enumerate(
                zip(_each(observed, self._dtype), acted, strict=True)
            )
        ]
        self._seen = steps
        self._step += 1
        ptr = None if isinstance(observed, Tensor) else observed[1]
        return self._feed_of(pieces, steps, ptr)

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
            feed.observed(hidden), feed.observation, greedy=greedy, generator=generator
        )
        return answer[:, 0]

    def _new_pieces(self, number: int, observed: Tensor, acted: Tensor | None) -> list[Piece]:
        """What an episode feeds: its last action, or at a restart its window; the observation."""
        session, pieces = self._sessions[number], []
        if acted is not None and session.observed is not None:
            session.past.append((self._step - 1, torch.cat([session.observed, acted])))
            pieces = [(self._step - 1, acted)]
        size = len(observed) + 1
        if session.used and session.used + size > self._model.segment:
            self.ring.clear(number)
            session.used = session.position = 0
            pieces = list(session.past)
        session.used += size
        session.observed = observed
        return [*pieces, (self._step, observed)]

    def _feed_of(
        self,
        pieces: list[list[Piece]],
        observation: Mapping[str, Tensor | Ragged],
        ptr: Int[Tensor, "offset"] | None,
    ) -> Feed:
        """The pieces in padded rows, with their positions and who sees which slot."""
        rows = [torch.cat([tokens for _, tokens in row]) for row in pieces]
        longest = max(map(len, rows))
        steps, positions = [], []
        for session, parts, tokens in zip(self._sessions, pieces, rows, strict=True):
            padding = [-1] * (longest - len(tokens))
            steps.append([step for step, piece in parts for _ in range(len(piece))] + padding)
            end = session.position + len(tokens)
            positions.append([*range(session.position, end), *padding])
            session.position = end
        check_positions(self._model.backbone, max(s.position for s in self._sessions))
        step, position = torch.tensor([steps, positions], device=self._device)
        mask = self.ring.admit(step, position, window=self._model.window)
        lengths = [
            (len(tokens), len(parts[-1][1])) for tokens, parts in zip(rows, pieces, strict=True)
        ]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return Feed(padded, position, mask, lengths, observation, ptr)

    def _lean_now(self) -> LeanPass | None:
        """The lean pass, unless rows mix adapters at this decision."""
        if self._lean is not None and mixes(self._model.backbone):
            return lean_pass(self._model.backbone, self._asked_lean)
        return self._lean

    def _through(self, feed: Feed, lean: LeanPass | None) -> Float[Tensor, "batch token width"]:
        if lean is not None:
            return lean(feed.tokens, feed.mask, feed.position, self.ring)
        with self._model.own_adapter(len(feed.tokens)):
            return run_backbone(
                self._model.backbone,
                feed.tokens,
                feed.mask,
                feed.position,
                keys_and_values=self.ring,
            )


def numbers_of(rows: Int[Tensor, "row"], count: int) -> list[int]:
    """The numbers of the rows of `count` that go on.

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


def _each(observed: Any, dtype: torch.dtype) -> list[Float[Tensor, "token width"]]:
    """The tokens of every episode's new observation."""
    if isinstance(observed, Tensor):
        return list(observed[:, 0].to(dtype))
    values, ptr = observed
    return list(values.to(dtype).split((ptr[1:] - ptr[:-1]).tolist()))
