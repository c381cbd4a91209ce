"""A predictor as a policy of any setting, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from netllm.task import state_of
from netllm.vp.state import State

if TYPE_CHECKING:
    from netllm_adapt import Predictor
    from netllm_sims.vp import Setting


class Extended:
    """A predictor as a policy of any setting.

    Of a longer history the model reads the last points that it knows; of a longer horizon it
    predicts the rest from its own predictions. A multimodal model sees the frame on display at the
    last known point. Of side information it sees what it was adapted to, and what the setting does
    not show of it is not known. The world, frames too, is turned so that its front lies where it
    did in training.

    Raises:
        ValueError: if the setting has another rate or too short a history.
    """

    def __init__(self, model: Predictor, setting: Setting) -> None:
        from netllm_adapt import Forecast

        from netllm.vp.side_information import SideRead
        from netllm.vp.windows import Sight, frames_of

        check_rate(model, setting)
        check_history(model, setting)
        self._forecast = Forecast(model)
        self._horizon = setting.horizon
        front_deg = state_of(model, State).front_deg
        self._turn_deg = 0.0 if front_deg is None else front_deg - setting.front_deg
        frames = frames_of(model)
        self._sight = Sight(setting, frames, turn_deg=self._turn_deg) if frames else None
        self._side = SideRead.by(model)

    def reset(self, seed: int) -> None:
        """Nothing to begin."""

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The viewports that follow, (batch, horizon, 3), in degrees."""
        from netllm_sims.vp.geometry import turned

        known = turned(observation["viewport_deg"], self._turn_deg)
        beside = self._side.of(observation, known, self._turn_deg)
        image = {}
        if self._sight is not None:
            image["image"] = self._sight(observation["video"], observation["time_s"])

        def answer(seen: np.ndarray) -> np.ndarray:
            return self._forecast.act(
                {"viewport_deg": seen, **image, **self._side.fitted(beside, seen)}
            )

        return turned(extended(known, self._horizon, answer), -self._turn_deg)


def check_rate(model: Predictor, setting: Setting) -> None:
    """Refuse a setting whose points lie closer or farther apart than a model has learned.

    Raises:
        ValueError: if the rates differ; a checkpoint that does not tell its own is taken as it is.
    """
    learned_hz = state_of(model, State).rate_hz
    if learned_hz not in (None, setting.rate_hz):
        raise ValueError(
            f"This model was adapted to {learned_hz:g} points per second, setting "
            f"{setting.name!r} has {setting.rate_hz:g}, so it would take every point for another "
            f"moment. Test it with --set rate_hz={learned_hz:g}, which resamples, or adapt one "
            f"with --set rate_hz={setting.rate_hz:g}."
        )


def check_history(model: Predictor, setting: Setting) -> None:
    """Refuse a setting that shows fewer points than a model reads.

    Raises:
        ValueError: with both numbers.
    """
    read = model.encoder.config().get("history", 0)
    if setting.history < read:
        raise ValueError(
            f"This model reads a history of {read} points, setting {setting.name!r} has "
            f"{setting.history}. Test it with --set history={read}, or adapt one with "
            f"--set history={setting.history}."
        )


def extended(
    seen_deg: np.ndarray, horizon: int, answer: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`horizon` viewports (batch, horizon, 3): those of `answer`, then those that follow these."""
    known = seen_deg.shape[1]
    while seen_deg.shape[1] < known + horizon:
        seen_deg = np.concatenate([seen_deg, answer(seen_deg)], axis=1)
    return seen_deg[:, known : known + horizon]
