"""One task's place in a server: its policy, its fallback, and which sessions the policy knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from netllm.serve.schema import Arrays, crossed, joined, zeros
from netllm.task import ObservationField, Policy, PoolTask, Task


@dataclass(eq=False)
class Seat:
    """One task as it is served; `decide` and `close` are for the thread that owns the policy.

    Raises:
        ValueError: if the policy decides step after step and its episodes cannot come and go.
    """

    task: Task
    setting: Any
    policy: Policy
    """That of `task.policy`, as `netllm test` asks it."""
    fallback: Policy
    """Asked where the policy is too late, always as at the beginning of an episode."""
    fallback_name: str
    about: Mapping[str, Any] = field(default_factory=dict)
    """What `/v1/tasks` tells of it: its checkpoint."""

    def __post_init__(self) -> None:
        self.fields: Mapping[str, ObservationField] = self.task.observation_fields(self.setting)
        self._known: set[int] = set()
        if self.remembers and not hasattr(self.policy, "open"):
            raise ValueError(
                f"The policy of {self.task.name} must have `open` and `close` to be served, as "
                f"netllm_adapt.Policy has: sessions come and go. Got {type(self.policy).__name__}."
            )
        self.policy.reset(0)

    @property
    def name(self) -> str:
        """The task's."""
        return self.task.name

    @property
    def remembers(self) -> bool:
        """Whether an answer depends on the decisions before; else there are no sessions."""
        return not self.task.supervised

    def check(self, observation: Arrays) -> Mapping[int, Any] | None:
        """What `begin` is given for one observation, as of episode 0.

        Raises:
            ValueError: if the observation contradicts itself.
        """
        return self.task.running(joined(self.fields, [observation], [0]))

    def warm_up(self) -> None:
        """Decide once, and forget it: what is packed and compiled at the first call is then ready.

        A task of decisions is asked about the beginning of a test episode, another about zeros.
        """
        rows = [zeros(self.fields)]
        if isinstance(self.task, PoolTask):
            some = self.task.episodes(self.setting, "test", count=1)
            begun = self.task.environment(self.setting, some, seed=0, record=False)
            rows = crossed(self.task.name, self.fields, begun.observation())
        found = self.check(rows[0])
        running = [None if found is None else found[0]]
        self.decide([0], rows, running)
        self.close([0])
        self.fall_back(rows, running)

    def decide(
        self, sessions: Sequence[int], rows: Sequence[Arrays], running: Sequence[Any]
    ) -> np.ndarray:
        """The policy's answers, in one pass.

        Args:
            sessions: whose they are, by number; any numbers where nothing is remembered.
            rows: their observations.
            running: what `begin` is given for each of them, or None.
        """
        batch = joined(self.fields, rows, sessions)
        if self.remembers:
            self._open(sessions)
        else:
            del batch["episode"]
        if running[0] is not None and hasattr(self.policy, "begin"):
            self.policy.begin(dict(zip(sessions, running, strict=True)))
        return np.asarray(self.policy.act(batch))

    def took(self, answers: np.ndarray) -> None:
        """Tell the policy what was really answered where its last answers came too late."""
        if self.remembers:
            self.policy.took(answers)  # type: ignore[attr-defined]

    def _open(self, sessions: Sequence[int]) -> None:
        new = [session for session in sessions if session not in self._known]
        if new:
            self.policy.open(new)  # type: ignore[attr-defined]
            self._known.update(new)

    def close(self, sessions: Sequence[int]) -> None:
        """Forget sessions; those that the policy never saw too."""
        known = [session for session in sessions if session in self._known]
        if known:
            self.policy.close(known)  # type: ignore[attr-defined]
            self._known.difference_update(known)

    def fall_back(self, rows: Sequence[Arrays], running: Sequence[Any]) -> np.ndarray:
        """The fallback's answers, at once."""
        episodes = [*range(len(rows))]
        self.fallback.reset(0)
        if running[0] is not None and hasattr(self.fallback, "begin"):
            self.fallback.begin(dict(zip(episodes, running, strict=True)))
        return np.asarray(self.fallback.act(joined(self.fields, rows, episodes)))
