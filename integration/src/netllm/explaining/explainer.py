"""A model with some of its episodes, ready to be asked about any of their decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm.explaining.contrast import Contrast
from netllm.explaining.decision import Decision, Decisions, parts_of
from netllm.explaining.neutral import Neutral
from netllm.explaining.recorded import record
from netllm.explaining.rule_tree import RuleTree, examples, rule_tree

if TYPE_CHECKING:
    from netllm_adapt import Adapted

    from netllm.task import Task


class Explainer:
    """A model with some of its episodes.

    Args:
        task: what it was adapted to.
        model: in float32, in which gradients and small differences are not lost to rounding.
        setting: where it plays.
        episodes: it plays these.
        seed: of its random stream.
    """

    def __init__(
        self, task: Task, model: Adapted, setting: Any, episodes: Sequence[Any], *, seed: int
    ) -> None:
        self.task = task
        self.model = model.eval()
        self.recorded = record(task, model, setting, episodes, seed=seed)
        self.neutral = Neutral(task, self.recorded)
        self.parts = parts_of(Decisions(model, self.recorded[0])[0], task.columns)
        self._names = list(dict.fromkeys(part.field for part in self.parts))

    def decisions(self, episode: int) -> Decisions:
        """The decisions of an episode, by its number among those that were played."""
        return Decisions(self.model, self.recorded[episode], self._names)

    def contrast(self, decision: Decision) -> Contrast:
        """A decision beside the neutral one."""
        return Contrast(decision, self.neutral)

    def seen(self) -> dict[str, Float[ndarray, "number"]]:
        """All numbers of every part in all episodes."""
        found: dict[str, list[ndarray]] = {part.name: [] for part in self.parts}
        for one in self.recorded:
            for call in range(len(one.observations)):
                alone = Decision.alone(self.model, one, call, self._names)
                told, _ = self.neutral(alone)
                for part in self.parts:
                    found[part.name].append(part.of(told).flatten().cpu().numpy())
        return {name: np.concatenate(some) for name, some in found.items()}

    def rule_tree(self, *, depth: int, seed: int) -> RuleTree:
        """A tree that imitates the decisions, fitted to two thirds of the episodes.

        The others, the last third, say how faithful it is.
        """
        fit = len(self.recorded) - max(1, len(self.recorded) // 3)
        kind, fitted = self._examples(slice(0, fit))
        return rule_tree(fitted, self._examples(slice(fit, None))[1], kind, depth=depth, seed=seed)

    def _examples(self, some: slice) -> Any:
        return examples(self.task, self.model, self.recorded[some], self.parts, self.neutral)
