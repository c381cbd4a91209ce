"""Decisions one step at a time, with the keys and values of the last window remembered."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from netllm_adapt.attention import check_positions
from netllm_adapt.batches import joined, select
from netllm_adapt.episodes import Ragged
from netllm_adapt.llama.inference import LeanPass, compiled_rows
from netllm_adapt.llama.packed_weights import lean_pass
from netllm_adapt.lora import mixes
from netllm_adapt.model.base import BackboneInput
from netllm_adapt.model.decider import AdaptedModel
from netllm_adapt.stream.cuda_graphs import GraphedPass, Record, recorder
from netllm_adapt.stream.key_value_ring import Ring

Piece = tuple[int, Float[Tensor, "token width"]]
"""Some tokens of one step, and its number."""


class _Session:
    """One episode of a stream: its last window of steps, and how far its segment has come."""

    def __init__(self, window: int) -> None:
        self.past: deque[Piece] = deque(maxlen=window)
        self.observed: Tensor | None = None
        self.seen: Mapping[str, Tensor | Ragged] = {}
        """Its last observation, where that is not among the stream's newest ones."""
        self.acted: Tensor | None = None
        """The token of its last action, where that is known already."""
        self.steps = 0
        """Decisions so far."""
        self.used = 0
        """Tokens of the steps that began in this segment."""
        self.position = 0
        """Tokens that passed in this segment, its window of context included."""
        self._waiting: list[Piece] = []
        """What has yet to pass: more than a step's own if steps were skipped."""

    def feed(self, observed: Tensor, acted: Tensor | None, *, segment: int) -> None:
        """Take a step in: the last action, or at a restart its window; the observation."""
        step = self.steps
        pieces: list[Piece] = []
        if acted is not None and self.observed is not None:
            self.past.append((step - 1, torch.cat([self.observed, acted])))
            pieces = [(step - 1, acted)]
        size = len(observed) + 1
        if self.used + size > segment and self.used:
            self.used = self.position = 0
            pieces, self._waiting = list(self.past), []
        self.used += size
        self.steps += 1
        self.observed = observed
        self.acted = None
        self._waiting += [*pieces, (step, observed)]

    def pieces(self) -> list[Piece]:
        """What passes now, of the steps since the last pass; an observation comes last."""
        waiting, self._waiting = self._waiting, []
        return waiting


class DecisionStream:
    """Decide step after step for a batch of episodes that run side by side.

    Only the new step's tokens pass through the backbone: the action before, the return-to-go and
    the observation. When `model.segment` tokens are full, an episode starts afresh by encoding its
    last window of steps again, exactly as training rows are cut, so that both see the same
    contexts. Steps may differ in their number of tokens, and episodes may end one by one; others
    may `open`, and some of them alone be asked about (`rows`), each at a step of its own.

    Args:
        model: the adapted model, in eval mode.
        batch: number of episodes.
        lean: pass the tokens through `LeanPass`, with the backbone's weights of this moment, rather
            than through the backbone's own modules; None does so where it covers the backbone, and
            while its rows do not mix `adapters`: so not for a member of `Together` whose adapter is
            not the active one.
        record: records passes of the backbone's own modules, see `stream.cuda_graphs`, unless rows
            mix `adapters`; by default a GPU does where ``NETLLM_CUDA_GRAPHS`` is 1.

    Raises:
        ValueError: if `batch` is below 1, or `lean` is asked for and does not cover the backbone,
            here or at a decision.
    """

    def __init__(
        self,
        model: AdaptedModel,
        *,
        batch: int,
        lean: bool | None = None,
        record: Record | None = None,
    ) -> None:
        if batch < 1:
            raise ValueError(f"`batch` must be at least 1 episode, got {batch}.")
        self._model = model
        self._dtype, self._device = model.dtype, model.device
        self._sessions = [_Session(model.window) for _ in range(batch)]
        self._seen: Mapping[str, Tensor | Ragged] = {}
        """The newest observations, of the episodes in the rows `_asked`."""
        self._asked: list[int] = []
        self._free: list[int] = []
        self._asked_lean = lean
        with model.own_adapter(batch):
            self._lean: LeanPass | GraphedPass | None = lean_pass(model.backbone, lean)
        record = record or recorder(self._device)
        if record is not None and self._lean is None and not model.shares_backbone:
            self._lean = GraphedPass(model.backbone, record)
        self._recorded = isinstance(self._lean, GraphedPass)
        self._ring = Ring(batch=batch, device=self._device, runs=not self._recorded)

    def keep(self, rows: Int[Tensor, "row"]) -> None:
        """Go on with some of the episodes only, by their numbers among the present ones.

        Raises:
            ValueError: if they are not whole numbers of present episodes, each once, or none is
                left.
        """
        count, numbers = len(self._sessions), rows.tolist()
        whole = not (rows.is_floating_point() or rows.dtype == torch.bool) and rows.ndim == 1
        if not (whole and numbers and len({*numbers} & {*range(count)}) == len(numbers)):
            raise ValueError(
                f"`rows` must be numbers from 0 to {count - 1} of the episodes that go on, each "
                f"once and at least one, got {numbers}."
            )
        self._hand_out()
        self._sessions = [self._sessions[row] for row in numbers]
        self._free = []
        self._ring.keep(rows)

    def open(self, count: int) -> list[int]:
        """The rows of so many new episodes, which are at their first step."""
        new = count - len(self._free)
        if new > 0:
            first = len(self._sessions)
            self._sessions += [_Session(self._model.window) for _ in range(new)]
            self._free += range(first, first + new)
            self._ring.add(new)
        opened, self._free = self._free[:count], self._free[count:]
        return opened

    def close(self, rows: Sequence[int]) -> None:
        """Forget the episodes in these rows, which others may take."""
        self._hand_out()
        for row in rows:
            self._sessions[row] = _Session(self._model.window)
        self._free = sorted([*self._free, *rows])

    @torch.inference_mode()
    def decide(
        self,
        observation: Mapping[str, Tensor | Ragged],
        return_to_go: Float[Tensor, "batch"],
        previous_action: Int[Tensor, "batch ..."] | None,
        rows: Sequence[int] | None = None,
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The next answer of every episode, or of those in some rows.

        Args:
            observation: fields with a leading batch axis, or with one entry of `ptr` per episode.
            return_to_go: what is still to be earned, per episode.
            previous_action: what was done at the step before, anything where that step is an
                episode's first; None if it is the first of all.
            rows: the episodes that are asked about, in the observation's order; all if None.
            greedy: the most likely answer, else a sampled one.
            generator: randomness of sampled answers.

        Raises:
            ValueError: if a row comes to be longer than the backbone's learned positions.
        """
        hidden = self.hidden(observation, return_to_go, previous_action, rows)
        return self.answer(hidden, greedy=greedy, generator=generator)

    @torch.inference_mode()
    def hidden(
        self,
        observation: Mapping[str, Tensor | Ragged],
        return_to_go: Float[Tensor, "batch"],
        previous_action: Int[Tensor, "batch ..."] | None,
        rows: Sequence[int] | None = None,
    ) -> Any:
        """Hidden states of the new observation's tokens, as `AdaptedModel.hidden` gives them."""
        lean, backbone = self._lean, self._model.backbone
        if lean is not None and mixes(backbone):
            lean = lean_pass(backbone, self._asked_lean)
        given = self.backbone_input(observation, return_to_go, previous_action, rows)
        return self._model.pass_through(given, lean)

    @torch.inference_mode()
    def answer(
        self, hidden: Any, *, greedy: bool = True, generator: torch.Generator | None = None
    ) -> Tensor:
        """The answer to the newest observation of every episode, from its hidden states."""
        answer: Tensor = self._model.head.answer(
            hidden, self._seen, greedy=greedy, generator=generator
        )
        return answer[:, 0]

    @torch.inference_mode()
    def distribution(self, hidden: Any) -> Float[Tensor, "batch answers"]:
        """The log-odds of every answer to the newest observations, of a head that has them."""
        odds: Tensor = self._model.head.distribution(hidden, self._seen)
        return odds[:, 0]

    def backbone_input(
        self,
        observation: Mapping[str, Tensor | Ragged],
        return_to_go: Float[Tensor, "batch"],
        previous_action: Int[Tensor, "batch ..."] | None,
        rows: Sequence[int] | None = None,
    ) -> BackboneInput:
        """The new step's tokens; their slots of the cache are taken from now on."""
        asked = [*range(len(self._sessions))] if rows is None else [*rows]
        steps = self._steps(observation, return_to_go, previous_action, count=len(asked))
        acted = self._acted(asked, previous_action)
        observed = self._observed(steps, return_to_go)
        for row, own, action in zip(asked, _each(observed, self._dtype), acted, strict=True):
            self._sessions[row].feed(own, action, segment=self._model.segment)
        if asked != self._asked:
            self._hand_out()
        self._seen, self._asked = steps, asked
        pieces = [self._sessions[row].pieces() for row in asked]
        ptr = None if isinstance(observed, Tensor) else observed[1]
        return self._input_of(asked, pieces, ptr, whole=rows is None)

    @torch.inference_mode()
    def skip(
        self,
        observation: Mapping[str, Tensor | Ragged],
        return_to_go: Float[Tensor, "step"],
        action: Int[Tensor, "step ..."],
        rows: Sequence[int],
        previous_action: Int[Tensor, "row ..."] | None,
    ) -> None:
        """Take steps in that nobody asks about: their tokens pass with the next one that is asked.

        The next answer is what it would be if these steps had been asked about.

        Args:
            observation: of each step, as of `decide`.
            return_to_go: of each step.
            action: what was done at each step.
            rows: of each step its episode's; steps of one episode are in their order.
            previous_action: what was done before these steps in each of the rows, in the order in
                which they come first; None if these steps are the first of all of them.
        """
        asked = [*dict.fromkeys(rows)]
        steps = self._steps(observation, return_to_go, action, count=len(rows))
        last = dict(zip(asked, self._acted(asked, previous_action), strict=True))
        observed = _each(self._observed(steps, return_to_go), self._dtype)
        tokens = self._model.encoder.act(action[:, None], steps)[:, 0].to(self._dtype)
        for row, own, token in zip(rows, observed, tokens, strict=True):
            self._sessions[row].feed(own, last[row], segment=self._model.segment)
            last[row] = token
        for row, token in last.items():
            self._sessions[row].acted = token

    def _steps(
        self,
        observation: Mapping[str, Tensor | Ragged],
        return_to_go: Tensor,
        action: Tensor | None,
        *,
        count: int,
    ) -> Mapping[str, Tensor | Ragged]:
        """The observation with an axis of steps, one in each row.

        Raises:
            ValueError: if something is not of `count` episodes.
        """
        given = {"return_to_go": return_to_go, "previous_action": action, **observation}
        for name, value in given.items():
            if value is not None and (own := _episodes(value)) != count:
                raise ValueError(
                    f"The stream was made for {count} episodes, got an observation "
                    f"of {own}: `{name}`."
                )
        return {
            name: value if isinstance(value, Ragged) else value[:, None]
            for name, value in observation.items()
        }

    def _observed(
        self, steps: Mapping[str, Tensor | Ragged], return_to_go: Float[Tensor, "batch"]
    ) -> Any:
        """The tokens of each step."""
        return self._model.encoder.observe(steps, self._model.told(return_to_go[:, None]))

    def _acted(
        self, asked: list[int], previous_action: Int[Tensor, "batch ..."] | None
    ) -> list[Float[Tensor, "1 width"] | None]:
        """The token of each episode's last action; None at its first step."""
        later = [number for number, row in enumerate(asked) if self._sessions[row].steps]
        if (previous_action is None) != (not later):
            raise ValueError("`previous_action` must be None at the first step, and only there.")
        acted = [self._sessions[row].acted for row in asked]
        unknown = [number for number in later if acted[number] is None]
        if previous_action is None or not unknown:
            return acted
        before = self._seen_by([asked[number] for number in unknown])
        own = previous_action if len(unknown) == len(asked) else previous_action[unknown]
        tokens = self._model.encoder.act(own[:, None], before)[:, 0].to(self._dtype)
        for number, token in zip(unknown, tokens, strict=True):
            acted[number] = token
        return acted

    def _seen_by(self, rows: list[int]) -> Mapping[str, Tensor | Ragged]:
        """What the episodes in these rows saw at their last step."""
        if rows == self._asked:
            return self._seen
        self._hand_out()
        return joined([self._sessions[row].seen for row in rows])

    def _hand_out(self) -> None:
        """Give each session its own of the newest observations."""
        for number, row in enumerate(self._asked):
            here = torch.tensor([number], device=self._device)
            self._sessions[row].seen = select(self._seen, here)
        self._seen, self._asked = {}, []

    def _input_of(
        self,
        asked: list[int],
        pieces: list[list[Piece]],
        ptr: Int[Tensor, "offset"] | None,
        *,
        whole: bool,
    ) -> BackboneInput:
        """The pieces in padded rows; what is read are the observations, which come last."""
        rows = [torch.cat([tokens for _, tokens in row]) for row in pieces]
        longest = max(map(len, rows))
        if self._recorded:  # few shapes
            longest = compiled_rows(longest)
        steps, positions, newest = [], [], []
        sessions = [self._sessions[row] for row in asked]
        for number, (session, parts) in enumerate(zip(sessions, pieces, strict=True)):
            if session.position == 0:
                self._ring.clear(asked[number])
            count, own = len(rows[number]), len(parts[-1][1])
            padding = [-1] * (longest - count)
            steps.append([step for step, piece in parts for _ in range(len(piece))] + padding)
            positions.append([*range(session.position, session.position + count), *padding])
            newest.append(slice(count - own, count))
            session.position += count
        check_positions(self._model.backbone, max(s.position for s in sessions))
        step, position = torch.tensor([steps, positions], device=self._device)
        chosen = None if whole else asked
        mask = self._ring.admit(step, position, window=self._model.window, rows=chosen)

        def read(hidden: Float[Tensor, "batch token width"]) -> Any:
            observed = [own[part] for own, part in zip(hidden, newest, strict=True)]
            if ptr is None:
                return torch.stack(observed)[:, None]
            return Ragged(torch.cat(observed), ptr)

        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        if longest > padded.shape[1]:
            padded = F.pad(padded, (0, 0, 0, longest - padded.shape[1]))
        return BackboneInput(padded, mask, position, read, cache=self._ring)


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
