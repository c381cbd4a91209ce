"""A student decides, and the adapted model is asked where the student is unsure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

REMEMBERED = 1_000
"""Of each episode so many steps are kept for the model, since it was asked last."""


class WhenUnsure:
    """A student that asks the adapted model where its highest probability is below a threshold.

    The model's context stays whole: when it is asked about an episode, the steps that it missed
    there pass first, together with the one that is asked about. Its answer is what it would be if
    it had been asked at every step (of more steps than `REMEMBERED` it misses the oldest).

    Episodes start together, or come and go by `open` and `close`; then a field `episode` numbers
    those that are asked about.

    Args:
        student: a policy with `probabilities`, which remembers nothing.
        model: the adapted model as a policy of `netllm_adapt`.
        below: the threshold; at 0 the model is never asked, above 1 always.

    Raises:
        ValueError: if the student gives no probabilities, or an episode is asked about that is not
            open.
    """

    def __init__(self, student: Any, model: Any, *, below: float) -> None:
        check_gives_probabilities(student)
        self._student, self._model, self._below = student, model, below
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin new episodes."""
        self._student.reset(seed)
        self._model.reset(seed)
        self._steps: dict[int, deque[_Step]] = {}
        """Of every open episode the steps that the model missed, with what was done."""
        self._last: list[int] = []
        """The episodes that were asked about last."""
        self._unsure: np.ndarray = np.zeros(0, dtype=bool)
        """Which of them the model answered."""
        self._decisions = 0
        self.reached = 0
        """Decisions that reached the model since the last reset."""

    def open(self, episodes: Sequence[int]) -> None:
        """Begin these episodes beside those that are open."""
        self._model.open(episodes)
        self._steps.update((episode, deque(maxlen=REMEMBERED)) for episode in episodes)

    def close(self, episodes: Sequence[int]) -> None:
        """Forget these episodes, which were opened."""
        self._model.close(episodes)
        for episode in episodes:
            del self._steps[episode]
        self._last = []

    @property
    def asked(self) -> float:
        """The share of decisions that reached the model since the last reset."""
        return self.reached / max(self._decisions, 1)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The student's answers, and the model's where the student is unsure."""
        odds = self._student.probabilities(observation)
        answers: np.ndarray = odds.argmax(axis=1)
        self._last = np.asarray(observation.get("episode", range(len(answers)))).tolist()
        if not self._steps:
            self.open(self._last)
        if closed := [episode for episode in self._last if episode not in self._steps]:
            raise ValueError(
                f"`episode` must number open episodes, got {closed}. Begin them with `open`, or "
                "call `reset` before others."
            )
        self._unsure = odds.max(axis=1) < self._below
        if len(rows := np.flatnonzero(self._unsure)):
            asked = _rows(observation, rows) | {"episode": np.array(self._last)[rows]}
            self._catch_up(asked["episode"].tolist())
            answers[rows] = self._model.act(asked)
        for row in np.flatnonzero(~self._unsure):
            self._steps[self._last[row]].append((_rows(observation, [row]), answers[row]))
        self._decisions += len(answers)
        self.reached += len(rows)
        return answers.copy()

    def took(self, actions: np.ndarray) -> None:
        """Remember these as the last actions: something else was done than answered."""
        if self._unsure.any():
            self._model.took(actions[self._unsure])
        for row in np.flatnonzero(~self._unsure):
            steps = self._steps[self._last[row]]
            steps[-1] = (steps[-1][0], actions[row])

    def _catch_up(self, episodes: Sequence[int]) -> None:
        """Tell the model of the steps of these episodes that it missed."""
        missed = [(episode, *step) for episode in episodes for step in self._steps[episode]]
        if missed:
            numbers, seen, done = zip(*missed, strict=True)
            fields = {name: np.concatenate([one[name] for one in seen]) for name in seen[0]}
            self._model.missed(fields | {"episode": np.array(numbers)}, np.array(done))
        for episode in episodes:
            self._steps[episode].clear()


_Step = tuple[dict[str, np.ndarray], Any]
"""What was seen, as a batch of one, and what was done."""


def _rows(observation: Mapping[str, np.ndarray], rows: Any) -> dict[str, np.ndarray]:
    """A copy of some rows of an observation."""
    return {name: np.asarray(value)[rows] for name, value in observation.items()}


def check_gives_probabilities(student: object) -> None:
    """Raise unless a student can be unsure."""
    if not hasattr(student, "probabilities"):
        raise ValueError(
            "Only a student that gives probabilities can be unsure, which "
            f"{type(student).__name__} does not. Test it alone, with --policy student:FILE."
        )
