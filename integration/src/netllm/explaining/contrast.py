"""A decision beside the neutral one, and the number that is explained of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from netllm.explaining.decision import Decision, Fields, Part
from netllm.explaining.neutral import Neutral


class Contrast:
    """A decision beside the neutral one: what was answered, and how far others lie from it.

    Args:
        decision: the one.
        neutral: what it is compared with.
    """

    def __init__(self, decision: Decision, neutral: Neutral) -> None:
        self.decision = decision
        self.told, self.neutral = neutral(decision)
        with torch.no_grad():
            self.hidden_neutral = decision.hidden(self.neutral)
            self.answer = self.answers(self.told)
            self.neutral_answer = decision.answers(self.hidden_neutral, self.neutral)
        self.chosen = int(self.answer[0].argmax()) if decision.gives_probabilities else None

    def answers(self, fields: Mapping[str, Tensor]) -> Tensor:
        """What is answered to each copy of the numbers."""
        return self.decision.answers(self.decision.hidden(fields), fields)

    def value(self, answers: Tensor) -> Tensor:
        """The one number that is explained, of each copy (copy,).

        The probability of the answer that was chosen. Of a head that answers with numbers, how far
        an answer lies from the neutral one in the direction of the one that was given: the root of
        the mean square over its rows (points of a horizon, say), in the answer's own unit.
        """
        if self.chosen is not None:
            return answers[:, self.chosen]
        way = self.answer - self.neutral_answer
        length = way.norm().clamp(min=1e-9) * way[0, ..., 0].numel() ** 0.5
        return ((answers - self.neutral_answer) * way).flatten(1).sum(1) / length

    def distance(self, answers: Tensor) -> Tensor:
        """How far answers lie from the one that was given (copy,), in the unit of `value`."""
        if self.chosen is not None:
            return (self.value(answers) - self.value(self.answer)).abs()
        rows = self.answer[0, ..., 0].numel()
        return (answers - self.answer).flatten(1).norm(dim=1) / rows**0.5

    def masked(self, parts: Iterable[Part]) -> Fields:
        """The decision's numbers with some parts made neutral, at all of its steps."""
        fields = dict(self.told)
        for part in parts:
            fields = part.put(fields, self.neutral)
        return fields

    def sureness(self) -> float:
        """How sure the answer is: its probability; of numbers, the closer to neutral the surer."""
        value = float(self.value(self.answer))
        return value if self.chosen is not None else -value
