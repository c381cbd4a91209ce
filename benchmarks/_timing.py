"""How long something takes on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def least_cpu_s(run: Callable[[], Any], times: int) -> float:
    """The least CPU time of `times` runs, in seconds, after one that is not counted."""
    run()
    spent = []
    for _ in range(times):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return min(spent)


class TimedPolicy:
    """A policy whose decisions are timed in ms of CPU."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self.reset = policy.reset
        self.spent_ms: list[float] = []
        self.asked: list[bool] = []
        """Whether the decision reached the model behind a student."""

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        before, start = getattr(self._policy, "reached", 0), time.process_time()
        actions: np.ndarray = self._policy.act(observation)
        self.spent_ms.append((time.process_time() - start) * 1e3)
        self.asked.append(getattr(self._policy, "reached", 0) > before)
        return actions


def timed_in_turn(
    task: Any, policies: Sequence[Any], setting: Any, episodes: Sequence[Any]
) -> list[TimedPolicy]:
    """Every policy with the times of its decisions, in one episode after the other.

    The policies play each episode in turn, after one that is not counted.
    """
    for policy in policies:
        task.rollout(policy, setting, episodes[:1], seed=0)
    timed = [TimedPolicy(policy) for policy in policies]
    for episode in episodes:
        for one in timed:
            task.rollout(one, setting, [episode], seed=0)
    return timed
