"""Gradient boosting: trees on statistics and packets of flows, the strong rival of the field."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from netllm_baselines.flows._scikit_learn import Fitted, log_loss, part

if TYPE_CHECKING:
    from netllm_sims.flows import Setting

MOST_ROUNDS = 150
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.1,
    "max_leaf_nodes": 15,
    "l2_regularization": 1.0,
    "early_stopping": False,
    "random_state": 0,
}
"""Those of the least loss on the validation part of `unseen-hosts`, see docs/tasks/flows.md."""


class GradientBoosting(Fitted):
    """Histogram gradient boosting on `flow_features.features`.

    It is fitted to the training part; how many rounds it has is what loses least on the validation
    part, up to `MOST_ROUNDS`.

    Source: Ke et al., LightGBM (NeurIPS 2017), in scikit-learn's implementation; Friedman, Greedy
    Function Approximation (2001).

    Args:
        setting: What it learns, and is validated on.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """

    def __init__(self, setting: "Setting") -> None:
        super().__init__(setting, _fit)


@lru_cache(maxsize=4)
def _fit(setting: "Setting") -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    train, valid = part(setting, "train"), part(setting, "valid")
    model = HistGradientBoostingClassifier(max_iter=MOST_ROUNDS, **SETTINGS)
    model.fit(*train)
    losses = []
    for probabilities in model.staged_predict_proba(valid.features):
        every = np.zeros((len(valid.labels), len(setting.classes)))
        every[:, model.classes_] = probabilities
        losses.append(log_loss(every, valid.labels))
    rounds = int(np.argmin(losses)) + 1
    return HistGradientBoostingClassifier(max_iter=rounds, **SETTINGS).fit(*train)
