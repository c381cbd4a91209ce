"""Decisions and predictions of several tasks, in one pass through their shared backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from netllm_adapt.model.predictor import Predictor
from netllm_adapt.model.shared_backbone import Together, check_names
from netllm_adapt.stream.decision_stream import DecisionStream


class TogetherStream:
    """Decide for episodes of several tasks that run side by side, in one pass a step.

    Each task's decisions are those of a `DecisionStream` of its own; see there for the arguments
    of a question. A predictor's answers are those of `Forecast`; it remembers nothing, and may be
    asked of any number of observations.

    Args:
        together: the models, in eval mode.
        batch: number of episodes of each model that decides step after step.

    Raises:
        ValueError: if a name is none of such a model.
    """

    def __init__(self, together: Together, *, batch: Mapping[str, int]) -> None:
        self._together = together
        self._predictors = {n: m for n, m in together.models.items() if isinstance(m, Predictor)}
        if batch:
            deciders = [name for name in together.models if name not in self._predictors]
            check_names(batch, deciders, "`batch`")
        self._streams = {
            name: DecisionStream(together.models[name], batch=count, lean=False)
            for name, count in batch.items()
        }

    def keep(self, name: str, rows: Int[Tensor, "row"]) -> None:
        """Go on with some of a task's episodes only, by their numbers among the present ones."""
        check_names([name], self._streams, "`name`")
        self._streams[name].keep(rows)

    @torch.inference_mode()
    def decide(
        self,
        questions: Mapping[str, tuple[Any, ...]],
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """The next answers of every task that is asked.

        Args:
            questions: by name observation, return-to-go and previous action; of a predictor the
                observation alone.
            greedy: the most likely answers, else sampled ones.
            generator: randomness of sampled answers, drawn in the order of the questions.

        Raises:
            ValueError: if nothing is asked, or a name is none of the streams' or predictors'.
        """
        check_names(questions, [*self._streams, *self._predictors], "`questions`")
        hidden = self._together.pass_through(
            {
                name: self._streams[name].backbone_input(*asked)
                if name in self._streams
                else self._predictors[name].input_of(*asked)
                for name, asked in questions.items()
            }
        )
        how: dict[str, Any] = {"greedy": greedy, "generator": generator}
        return {
            name: self._streams[name].answer(own, **how)
            if name in self._streams
            else self._predictors[name].head.answer(own, questions[name][0], **how)
            for name, own in hidden.items()
        }
