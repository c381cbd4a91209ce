"""Policies whose episodes cannot come and go by themselves, one for each session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from netllm.task import Policy


class OneEach:
    """A policy that gives each session one of its own, so that sessions may come and go.

    It asks them one after the other, each about a batch of one. For observations of a fixed size
    alone: every field has one row for each session.

    Args:
        build: makes a policy.
    """

    def __init__(self, build: Callable[[], Policy]) -> None:
        self._build = build
        self._own: dict[int, Policy] = {}

    def reset(self, seed: int) -> None:
        """Forget all sessions."""
        self._own = {}

    def open(self, sessions: Sequence[int]) -> None:
        """Begin sessions."""
        for session in sessions:
            self._own[session] = self._build()
            self._own[session].reset(0)

    def close(self, sessions: Sequence[int]) -> None:
        """End sessions."""
        for session in sessions:
            del self._own[session]

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The answer of each session's policy."""
        sessions = observation["episode"].tolist()
        rows = [{k: v[i : i + 1] for k, v in observation.items()} for i in range(len(sessions))]
        answers = [self._own[s].act(row) for s, row in zip(sessions, rows, strict=True)]
        return np.concatenate(answers)

    def took(self, answers: np.ndarray) -> None:
        """Do nothing: what was done is in the next observation."""
