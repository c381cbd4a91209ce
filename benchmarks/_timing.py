"""How long something takes on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
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
