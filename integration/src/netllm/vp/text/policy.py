"""A text predictor as a policy of any setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from jaxtyping import Float

from netllm.vp.policy import check_history, check_rate, extended
from netllm.vp.text.predictor import TextPredictor
from netllm.vp.text.written_viewports import read

if TYPE_CHECKING:
    from netllm_adapt import Predictor
    from netllm_sims.vp import Setting

TOGETHER = 16
"""Answers that a policy generates side by side; bounds the memory of keys and values."""


class TextPolicy:
    """A text predictor as a policy of any setting; `validity` is the share of valid answers.

    Of a longer history the model reads the last points that it knows; of a longer horizon it
    predicts the rest from its own predictions. For an answer that is not valid the last viewport
    is held.

    Raises:
        ValueError: if the setting has another rate or too short a history.
    """

    def __init__(self, model: TextPredictor, setting: Setting) -> None:
        check_rate(model, setting)
        check_history(model, setting)
        self._model = model.eval()
        self._horizon = setting.horizon
        self.reset(0)

    @classmethod
    def of(cls, model: Predictor, setting: Setting) -> Self:
        """The policy of a model that may have been loaded as a plain predictor."""
        return cls(model if isinstance(model, TextPredictor) else TextPredictor.of(model), setting)

    def reset(self, seed: int) -> None:
        """Begin to count; the answers themselves are greedy."""
        self.answers = 0
        self.valid = 0

    @property
    def validity(self) -> float:
        """Share of the answers since the last reset that were valid; nan before the first."""
        return self.valid / self.answers if self.answers else float("nan")

    def act(self, observation: Mapping[str, np.ndarray]) -> Float[np.ndarray, "batch horizon 3"]:
        """The viewports that follow, in degrees."""
        seen = np.asarray(observation["viewport_deg"], dtype=np.float64)
        return extended(seen, self._horizon, self._answers)

    def _answers(self, seen: np.ndarray) -> np.ndarray:
        parts = (self._answer(seen[i : i + TOGETHER]) for i in range(0, len(seen), TOGETHER))
        return np.concatenate([*parts])

    def _answer(self, seen: np.ndarray) -> np.ndarray:
        horizon = self._model.head.horizon
        fields = {"viewport_deg": torch.from_numpy(seen).float().to(self._model.device)}
        found = [read(text, horizon=horizon) for text in self._model.write(fields)]
        self.answers += len(found)
        self.valid += sum(viewports is not None for viewports in found)
        held = np.repeat(seen[:, -1:], horizon, axis=1)
        return np.stack(
            [last if own is None else own for own, last in zip(found, held, strict=True)]
        )
