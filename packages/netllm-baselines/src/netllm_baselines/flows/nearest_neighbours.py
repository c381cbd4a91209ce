"""Nearest neighbours: the training flows most alike say the class."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from netllm_baselines.flows._scikit_learn import Fitted, part

if TYPE_CHECKING:
    from netllm_sims.flows import Setting

COUNTS = (1, 3, 5, 9, 15)
"""Neighbours among which the validation part chooses."""


class NearestNeighbours(Fitted):
    """The nearest training flows by standardised `flow_features.features`, weighed by closeness.

    How many it asks is what reaches the best macro F1 on the validation part.

    Source: Cover and Hart, Nearest Neighbor Pattern Classification (1967), in scikit-learn's
    implementation.

    Args:
        setting: What it learns, and is validated on.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """

    def __init__(self, setting: "Setting") -> None:
        super().__init__(setting, _fit)


@lru_cache(maxsize=4)
def _fit(setting: "Setting") -> Any:
    from netllm_sims.flows.metrics import macro_f1

    train, valid = part(setting, "train"), part(setting, "valid")
    models = [_model(count).fit(*train) for count in COUNTS if count <= len(train.labels)]
    scores = [macro_f1(valid.labels, model.predict(valid.features)) for model in models]
    return models[int(np.argmax(scores))]


def _model(count: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), KNeighborsClassifier(count, weights="distance"))
