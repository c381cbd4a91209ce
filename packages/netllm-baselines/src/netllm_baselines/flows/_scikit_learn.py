"""What rivals that scikit-learn fits share."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines.flows.flow_features import features, numbers_of_classes

if TYPE_CHECKING:
    from netllm_sims.flows import Setting


class Part(NamedTuple):
    """A part of a setting, as numbers."""

    features: Float[ndarray, "flow feature"]
    labels: Int[ndarray, "flow"]


class Fitted:
    """A classifier that is fitted to a setting's training part when it is first asked.

    Args:
        setting: What it learns, and is validated on.
        fit: Makes a classifier of scikit-learn; what it made of a setting is kept.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """

    def __init__(self, setting: "Setting", fit: "Callable[[Setting], Any]") -> None:
        if find_spec("sklearn") is None:
            raise ModuleNotFoundError(
                f"{type(self).__name__} needs scikit-learn. In a clone: pip install "
                "'./packages/netllm-baselines[flows]'"
            )
        self._setting, self._fit = setting, fit

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Mapping[str, ndarray]) -> Float[ndarray, "batch class"]:
        """Probability of each class."""
        model = self._fit(self._setting)
        answer = np.zeros((len(observation["protocol"]), len(self._setting.classes)))
        said = model.predict_proba(features(observation))
        answer[:, model.classes_] = said[:, : len(model.classes_)]  # trees say two of one class
        return answer


def part(setting: "Setting", name: str) -> Part:
    """The flows of a part as features and numbers of classes."""
    flows = setting.of_part(name)
    return Part(features(flows.observation()), numbers_of_classes(flows, setting.classes))
