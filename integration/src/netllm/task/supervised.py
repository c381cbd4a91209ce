"""Tasks of predictions: a model learns from recorded right answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netllm.task.base import Task
from netllm.task.policy import Policy

if TYPE_CHECKING:
    from netllm_adapt import Predictor, Recipe


class SupervisedTask(Task):
    """A task of predictions: one answer to each question, in one pass.

    Beside a name and metrics it must say its `episodes`, how a policy is measured on them
    (`rollout`), what is learned from (`experience`), the `encoder` and the `head`; its settings are
    `presets` or a `simulator`'s. There is no pool, and no return that could be asked for.
    """

    supervised = True

    def assemble(self, recipe: Recipe, **parts: Any) -> Predictor:
        """A model that answers in one pass."""
        from netllm_adapt import Predictor

        return Predictor(**parts)

    def policy(self, model: Predictor, setting: Any) -> Policy:
        """The model, asked for a batch of answers at once."""
        from netllm_adapt import Forecast

        return Forecast(model)

    def fit(self, model: Predictor, experience: Any, **run: Any) -> Predictor:
        """Learn the recorded answers, `netllm_adapt.Examples`; see `fit` there."""
        from netllm_adapt import fit

        del run["finish"]
        return fit(model, experience, **(run if self.chooses else run | {"metric": ""}))
