"""A predictor as a classifier of any setting's classes, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from netllm.flows.state import State
from netllm.task import state_of

if TYPE_CHECKING:
    from netllm_adapt import Predictor
    from netllm_sims.flows import Setting


class Classifier:
    """A predictor as a policy of any setting that has some of its classes.

    Classes are matched by name. One that the model never learned has probability 0; what the model
    gives to classes that the setting lacks is the probability of none of them.

    Raises:
        ValueError: if they have no class in common, other statistics, or fewer packets than the
            model sees.
    """

    def __init__(self, model: Predictor, setting: Setting) -> None:
        from netllm_adapt import Forecast

        state = state_of(model, State)
        learned = setting.classes if state.classes is None else state.classes
        check(model, state, setting)
        self._forecast = Forecast(model, probabilities=True)
        self._packets = read(model)
        self._places = setting.places(learned)

    def reset(self, seed: int) -> None:
        """Nothing to begin."""

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The probability of every class of the setting, (batch, class)."""
        series = {
            name: observation[name][:, : self._packets] for name in ("sizes_bytes", "gaps_ms")
        }
        answer: np.ndarray = self._forecast.act({**observation, **series}) @ self._places
        return answer


def check(model: Predictor, state: State, setting: Setting) -> None:
    """Refuse a setting whose flows the model cannot tell apart.

    Raises:
        ValueError: see `Classifier`.
    """
    if state.classes is not None and not {*state.classes} & {*setting.classes}:
        raise ValueError(
            f"This model knows {', '.join(state.classes)}, setting {setting.name!r} has "
            f"{', '.join(setting.classes)}: no class in common. Give them the same names, or adapt "
            "one with --set as this test has it."
        )
    if state.statistics not in (None, setting.statistic_names):
        raise ValueError(
            "This model and the setting must have the same statistics, got "
            f"{', '.join(state.statistics or ()) or 'none'} and "
            f"{', '.join(setting.statistic_names) or 'none'}. Adapt one to flows of this source."
        )
    if setting.packets < read(model):
        raise ValueError(
            f"This model sees {read(model)} packets, setting {setting.name!r} shows "
            f"{setting.packets}. Test it with --set packets={read(model)}, or adapt one with "
            f"--set packets={setting.packets}."
        )


def read(model: Predictor) -> int:
    """First packets of a flow that a model sees."""
    length: int = model.encoder.config()["length"]
    return length
