"""An adapted model whose decisions are simulated ahead before they are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from netllm_sims.cjs import Setting, Simulator

    from netllm.cjs.adapted_scheduler import Scheduler


class Planner:
    """The model's answers, unless simulations say that another choice is better.

    The search is that of `netllm_baselines.cjs.Rollout`, with the model's answer in the place of
    the rule's. Like it, it also knows which executors are slow, if some are.

    Args:
        model: What is improved on.
        setting: Where it decides.
        draws: Simulations of a candidate, at least 3; a third of them for all candidates, the
            others for those that lead.
    """

    knows = "job profiles"

    def __init__(self, model: Scheduler, setting: Setting, *, draws: int) -> None:
        from netllm_baselines.cjs import Rollout

        self._model = model
        first = max(2, draws // 3)
        self._search = Rollout(setting, samples=first, more=draws - first)

    def reset(self, seed: int) -> None:
        """Begin new episodes; the draws follow `seed`."""
        self._model.reset(seed)
        self._search.reset(seed)

    def begin(self, simulators: Sequence[Simulator]) -> None:
        """Take the simulators whose episodes it will be asked about."""
        self._model.begin(simulators)
        self._search.begin(simulators)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Choice among the schedulable stages (-1 none) and executors, per episode."""
        answer = self._search.improve(observation, self._model.act(observation))
        self._model.took(answer)
        return answer
