"""A student decides, and the adapted model is asked where the student is unsure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class WhenUnsure:
    """A student that asks the adapted model where its highest probability is below a threshold.

    The model's context stays whole: when it is asked about an episode, the steps that it missed
    there pass first, together with the one that is asked about. Its answer is what it would be if
    it had been asked at every step.

    Args:
        student: a policy with `probabilities`.
        model: the adapted model as a policy of `netllm_adapt`.
        below: the threshold; at 0 the model is never asked, above 1 always.

    Raises:
        ValueError: if the student gives no probabilities, or episodes end one by one.
    """

    def __init__(self, student: Any, model: Any, *, below: float) -> None:
        check_gives_probabilities(student)
        self._student, self._model, self._below = student, model, below
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin new episodes."""
        self._student.reset(seed)
        self._model.reset(seed)
        self._steps: list[tuple[dict[str, np.ndarray], np.ndarray]] = []
        """What was seen and done, step by step."""
        self._known: np.ndarray = np.zeros(0, dtype=int)
        """How many steps of each episode the model knows."""
        self._decisions = 0
        self.reached = 0
        """Decisions that reached the model since the last reset."""

    @property
    def asked(self) -> float:
        """The share of decisions that reached the model since the last reset."""
        return self.reached / max(self._decisions, 1)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The student's answers, and the model's where the student is unsure."""
        odds = self._student.probabilities(observation)
        answers: np.ndarray = odds.argmax(axis=1)
        if not self._steps:
            self._known = np.zeros(len(answers), dtype=int)
            self._model.open([*range(len(answers))])
        if len(answers) != len(self._known):
            raise ValueError(
                f"Episodes must begin and end together, {len(self._known)} of them, got an "
                f"observation of {len(answers)}. Call `reset` before others."
            )
        seen = {name: np.array(value) for name, value in observation.items()}
        unsure = np.flatnonzero(odds.max(axis=1) < self._below)
        if len(unsure):
            self._catch_up(unsure)
            answers[unsure] = self._model.act(_rows(seen, unsure))
            self._known[unsure] = len(self._steps) + 1
        self._steps.append((seen, answers))
        self._decisions += len(answers)
        self.reached += len(unsure)
        return answers.copy()

    def _catch_up(self, episodes: np.ndarray) -> None:
        """Tell the model of the steps of these episodes that it missed."""
        parts, actions = [], []
        for number in range(int(self._known[episodes].min()), len(self._steps)):
            late = episodes[self._known[episodes] <= number]
            seen, done = self._steps[number]
            parts.append(_rows(seen, late))
            actions.append(done[late])
        if parts:
            missed = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
            self._model.missed(missed, np.concatenate(actions))


def _rows(observation: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Some episodes of an observation, by number."""
    return {**{name: value[rows] for name, value in observation.items()}, "episode": rows}


def check_gives_probabilities(student: object) -> None:
    """Raise unless a student can be unsure."""
    if not hasattr(student, "probabilities"):
        raise ValueError(
            "Only a student that gives probabilities can be unsure, which "
            f"{type(student).__name__} does not. Test it alone, with --policy student:FILE."
        )
