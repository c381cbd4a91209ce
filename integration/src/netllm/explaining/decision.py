"""One decision as a function of the numbers that the model saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from netllm_adapt.batches import Batch, plan
from netllm_adapt.episodes import Ragged
from torch import Tensor

from netllm.explaining.recorded import Recorded

if TYPE_CHECKING:
    from netllm_adapt import Adapted

RETURN = "return_to_go"
Fields = dict[str, Tensor]
"""Numbers by field, the first axis being copies of one decision."""


@dataclass(frozen=True)
class Part:
    """What is ranked, masked and swept as one: a field, or a named column of a table."""

    name: str
    field: str
    column: int | None = None
    """Of the last axis; all if None."""

    def of(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Its numbers, (copy, entry, number): entries are steps, rows of a table or points."""
        values = fields[self.field]
        values = values if self.column is None else values[..., self.column]
        return values.flatten(2) if values.ndim > 2 else values.reshape(len(values), -1, 1)

    def put(self, fields: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> Fields:
        """The fields with this part of the others."""
        if self.column is None:
            return {**fields, self.field: others[self.field].expand_as(fields[self.field])}
        mixed = fields[self.field].clone()
        mixed[..., self.column] = others[self.field][..., self.column]
        return {**fields, self.field: mixed}


class Decision:
    """One decision of a model, in the context of the earlier steps that reach it.

    Args:
        model: in eval mode.
        observation: of its steps, each field (1, step, …) or ragged; of a predictor (1, …).
        step: its number in the episode.
        returns: of its steps, (1, step); None of a predictor, and of a model told of none.
        actions: of its steps, (1, step, …); what the last one holds does not matter.
        names: the fields of numbers that are looked at; all if None.
    """

    def __init__(
        self,
        model: Adapted,
        observation: Mapping[str, Any],
        *,
        step: int,
        returns: Tensor | None = None,
        actions: Tensor | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.model: Any = model
        self.observation = observation
        self.step = step
        self.returns = returns
        self.actions = actions
        self.names = names

    @classmethod
    def alone(
        cls, model: Adapted, recorded: Recorded, call: int, names: Sequence[str] | None = None
    ) -> Decision:
        """What was seen at one call, without what came before; of a predictor all its questions."""
        deciding: Any = {}
        if recorded.returns:
            deciding = {"returns": recorded.returns[call], "actions": recorded.answers[call]}
        own = joined([recorded.observations[call]])
        return cls(model, own, step=call, names=names, **deciding)

    @cached_property
    def steps(self) -> int:
        """How many steps its context has, itself included."""
        return 1 if self.actions is None else self.actions.shape[1]

    @cached_property
    def numbers(self) -> Fields:
        """What can be moved a little: every field of numbers, and the return-to-go."""
        found = {}
        for name, field in self.observation.items():
            values = field.values[None] if isinstance(field, Ragged) else field
            if values.dtype != torch.bool:
                found[name] = values.float()
        if self.returns is not None and self.model.target_return is not None:
            found[RETURN] = self.returns
        return {name: found[name] for name in (found if self.names is None else self.names)}

    def ago(self, part: Part) -> Tensor:
        """Of every entry of a part how many steps ago it was seen; of a predictor, points."""
        own = self.observation.get(part.field)
        if isinstance(own, Ragged):
            steps = torch.arange(self.steps).repeat_interleave(own.ptr.diff().cpu())
            return self.steps - 1 - steps
        return torch.arange(part.of(self.numbers).shape[1]).flip(0)

    def seen(self, fields: Mapping[str, Tensor]) -> dict[str, Any]:
        """The observation with other numbers, a row for each of their copies."""
        rows = len(next(iter(fields.values()))) if fields else 1
        seen: dict[str, Any] = {}
        for name, own in self.observation.items():
            if isinstance(own, Ragged):
                values = own.values.repeat(rows, *[1] * (own.values.ndim - 1))
                values = fields[name].flatten(0, 1) if name in fields else values
                counts = own.ptr.diff().repeat(rows)
                seen[name] = Ragged(values, torch.nn.functional.pad(counts.cumsum(0), (1, 0)))
            else:
                seen[name] = fields.get(name, own.expand(rows, *own.shape[1:]))
        return seen

    def hidden(self, fields: Mapping[str, Tensor]) -> Any:
        """What the head reads, for each copy of the numbers."""
        return self.model.pass_through(self.backbone_input(fields))

    def backbone_input(self, fields: Mapping[str, Tensor]) -> Any:
        """The tokens of each copy, as they pass through the backbone."""
        seen = self.seen(fields)
        if self.actions is None:
            return self.model.input_of(seen)
        rows = len(next(iter(fields.values())))
        returns = fields.get(RETURN)
        if returns is None:
            returns = torch.zeros(rows, self.steps, device=self.actions.device)
        actions = self.actions.expand(rows, *self.actions.shape[1:])
        learn = torch.ones(rows, self.steps, dtype=torch.bool, device=actions.device)
        return self.model.backbone_input(Batch(seen, returns, actions, actions, learn))

    def answers(self, hidden: Any, fields: Mapping[str, Tensor]) -> Tensor:
        """What is answered: probabilities (copy, answer), or numbers (copy, row, column).

        Of a head without `distribution` the numbers are its `offsets`, if it has those, which
        never wrap around; else its answer.
        """
        head, seen = self.model.head, self.seen(fields)
        if not self.gives_probabilities:
            return getattr(head, "offsets", head.answer)(hidden, seen)
        odds = head.distribution(hidden, seen)
        if isinstance(odds, Tensor):
            newest = odds if self.actions is None else odds[:, -1]
            return newest.softmax(-1)
        values, ptr = odds
        last = range(self.steps - 1, len(ptr) - 1, self.steps)
        logs = torch.stack([values[int(ptr[k]) : int(ptr[k + 1])] for k in last])
        return logs.softmax(-1)

    @property
    def gives_probabilities(self) -> bool:
        """Whether the head chooses among answers; else it answers with numbers."""
        return hasattr(self.model.head, "distribution")

    def tokens(self) -> Tensor:
        """Of every token of its context how many steps ago it was, the action's among its step's.

        Of a predictor how many tokens ago.
        """
        if self.actions is None:
            count = self.backbone_input(self.numbers).tokens.shape[1]
            return torch.arange(count).flip(0)
        counts = step_tokens(self.model, self.observation, self.steps)
        return torch.arange(self.steps).flip(0).repeat_interleave(counts)


def step_tokens(model: Any, observation: Mapping[str, Any], steps: int) -> Tensor:
    """The tokens of every step, the action's included."""
    if model.encoder.tokens is not None:
        return torch.full((steps,), model.encoder.tokens + 1)
    counts: Tensor = model.encoder.count(observation)[0].cpu()
    return counts + (counts > 0)


class Decisions(Sequence[Decision]):
    """Every decision of an episode, each with the steps that reach it while it plays.

    Args:
        model: who decides.
        recorded: an episode of it.
        names: the fields of numbers that are looked at; all if None.
    """

    def __init__(self, model: Any, recorded: Recorded, names: Sequence[str] | None = None) -> None:
        self._model = model
        self._recorded = recorded
        self._names = names
        if not recorded.returns:
            counts = [range(len(some)) for some in recorded.answers]
            self._places = [(call, row) for call, rows in enumerate(counts) for row in rows]
            return
        sizes = [int(step_tokens(model, one, 1)[0]) for one in recorded.observations]
        limits: Any = {"segment": model.segment, "window": model.window}
        cut = plan([np.array(sizes)], **limits)
        # As a stream of decisions cuts them: see `netllm_adapt.DecisionStream`.
        self._places = [(one.context, t) for one in cut for t in range(one.start, one.stop)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, step: Any) -> Any:
        if isinstance(step, slice):
            return [self[k] for k in range(*step.indices(len(self)))]
        recorded, (start, last) = self._recorded, self._places[step]
        if not recorded.returns:
            batch = recorded.observations[start]
            own = {name: field[last : last + 1].clone() for name, field in batch.items()}
            return Decision(self._model, own, step=step, names=self._names)
        window = slice(start, last + 1)
        return Decision(
            self._model,
            joined(recorded.observations[window]),
            step=last,
            returns=torch.cat(recorded.returns[window], dim=1),
            actions=torch.cat([*recorded.taken[start:last], recorded.answers[last]], dim=1),
            names=self._names,
        )


def joined(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Steps of one episode, one after the other."""
    found: dict[str, Any] = {}
    for name, first in steps[0].items():
        own = [one[name] for one in steps]
        if not isinstance(first, Ragged):
            found[name] = own[0].clone() if len(own) == 1 else torch.cat(own, dim=1)
            continue
        counts = torch.cat([one.ptr.diff() for one in own])
        ptr = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        found[name] = Ragged(torch.cat([one.values for one in own]), ptr)
    return found


def parts_of(decision: Decision, columns: Mapping[str, Sequence[str]]) -> list[Part]:
    """What is ranked: the fields of numbers along which tokens change smoothly, tables by column.

    Args:
        decision: any of the model, with all of its fields.
        columns: names of the last axis of fields that are tables.
    """
    fields = {name: values.clone().requires_grad_() for name, values in decision.numbers.items()}
    with torch.enable_grad():
        hidden = decision.hidden(fields)
        states: Tensor = hidden if isinstance(hidden, Tensor) else hidden[0]
        slopes = torch.autograd.grad(states.sum(), [*fields.values()], allow_unused=True)
    found = []
    for (name, values), slope in zip(fields.items(), slopes, strict=True):
        if slope is None:
            continue
        named = columns.get(name, ())
        if len(named) == values.shape[-1] and values.ndim > 1:
            found += [Part(f"{name}.{column}", name, k) for k, column in enumerate(named)]
        else:
            found.append(Part(name, name))
    return found
