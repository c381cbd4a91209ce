"""Choose on validation below which probability a student asks the adapted model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netllm.deciders.when_unsure import WhenUnsure
from netllm.task import Policy, Task
from netllm.verbs.validation import figures

STEPS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the largest share of decisions that may reach the model, whose thresholds are tried."""


def choose_when_unsure(
    task: Task,
    setting: Any,
    student: Any,
    model: Policy,
    episodes: Sequence[Any],
    *,
    most_asked: float,
) -> dict[str, Any]:
    """`when_unsure`, the threshold chosen, and `unsure`, what each one tried gave.

    Thresholds are those below which the student's highest probability falls in some shares of its
    own decisions. Chosen is the highest by which no more decisions than `most_asked` reach the
    model: the more do, the nearer to its answers, while means over validation episodes differ by
    chance more than by a few questions.
    """
    highest = _Highest(student)
    metric = task.metrics[0]
    alone = figures(task, highest, setting, episodes)
    tried = [{"when_unsure": 0.0, "asked": 0.0, metric.key: alone[metric.key]}]
    for share in STEPS:
        below = float(np.quantile(np.concatenate(highest.seen), share * most_asked))
        both = WhenUnsure(student, model, below=below)
        found = figures(task, both, setting, episodes)
        tried.append({"when_unsure": below, "asked": both.asked, metric.key: found[metric.key]})
    chosen = max(one["when_unsure"] for one in tried if one["asked"] <= most_asked)
    return {"when_unsure": chosen, "unsure": tried}


class _Highest:
    """A student whose highest probabilities are kept."""

    def __init__(self, student: Any) -> None:
        self._student = student
        self.seen: list[np.ndarray] = []
        """By decision that of every episode."""

    def reset(self, seed: int) -> None:
        """Begin new episodes."""
        self._student.reset(seed)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The student's answers."""
        odds = self._student.probabilities(observation)
        self.seen.append(odds.max(axis=1))
        answers: np.ndarray = odds.argmax(axis=1)
        return answers
