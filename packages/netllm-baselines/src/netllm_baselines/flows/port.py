"""Classes by the server's port, as monitors did before traffic was encrypted."""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_baselines.flows.flow_features import numbers_of_classes

if TYPE_CHECKING:
    from netllm_sims.flows import Setting

_PRIOR_FLOWS = 1.0
"""How many flows the classes' shares in all training count for at each port."""


class Port:
    """How often flows to this port were of each class in training; nothing else is looked at.

    A rule that needs no time, and the fallback of `netllm serve`. At ports that training never saw
    it says the classes' shares among all that went to such rare ports, those of one flow.

    Source: the well-known ports of IANA (RFC 6335), counted rather than listed; Moore and
    Papagiannaki, Toward the Accurate Identification of Network Applications (PAM 2005), section 3.

    Args:
        setting: Whose training part is counted.
    """

    def __init__(self, setting: "Setting") -> None:
        self._setting = setting

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Mapping[str, ndarray]) -> Float[ndarray, "batch class"]:
        """Probability of each class."""
        keys, shares = _counted(self._setting)
        asked = _keys(observation)
        place = np.searchsorted(keys, asked).clip(max=len(keys) - 1)
        known = keys[place] == asked
        answer: Float[ndarray, "batch class"] = shares[np.where(known, place, len(keys))]
        return answer


@lru_cache(maxsize=4)
def _counted(setting: "Setting") -> tuple[ndarray, ndarray]:
    """The ports of the training part, and the classes' shares at each, of others last."""
    train = setting.of_part("train")
    labels = numbers_of_classes(train, setting.classes)
    keys, of = np.unique(_keys(train.observation()), return_inverse=True)
    counts = np.zeros((len(keys) + 1, len(setting.classes)))
    np.add.at(counts, (of, labels), 1)
    rare = counts[counts.sum(axis=1) == 1].sum(axis=0)
    every = np.bincount(labels, minlength=len(setting.classes))
    prior = rare if rare.any() else every
    counts += _PRIOR_FLOWS * (prior / prior.sum())
    return keys, counts / counts.sum(axis=1, keepdims=True)


def _keys(observation: Mapping[str, ndarray]) -> ndarray:
    """Protocol and port as one number."""
    keys: ndarray = observation["protocol"] * 65_536 + observation["server_port"]
    return keys
