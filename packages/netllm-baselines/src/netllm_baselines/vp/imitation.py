"""The GRU's network, under training on what somebody else predicts (needs the extra `learned`)."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netllm_baselines.vp._network_training import Learner
from netllm_baselines.vp.gru_network import GRUNetwork, network
from netllm_baselines.vp.training_recipe import Recipe
from netllm_baselines.vp.weights_file import Weights

RECIPE = Recipe(batch=256, mirror=False)
"""That of the GRU, on windows as they are: a prediction of a mirror image is not known."""


class Imitator:
    """A GRU that learns to predict as somebody does.

    Args:
        seed: Of weights and order.
        begun: Weights to begin with; drawn if None.
    """

    def __init__(self, *, seed: int, begun: Weights | None = None) -> None:
        self._seed, self.weights = seed, begun

    def learn(
        self,
        history_deg: Float[np.ndarray, "window history 3"],
        predicted_deg: Float[np.ndarray, "window horizon 3"],
        *,
        rate_hz: float,
        epochs: int,
    ) -> float:
        """The mean error in degrees over the last of some passes; `weights` are new then."""
        horizon, hidden = predicted_deg.shape[1], RECIPE.hidden
        known = None if self.weights is None else self.weights.arrays

        def make(generator: torch.Generator) -> GRUNetwork:
            made = network(hidden=hidden, horizon=horizon, generator=generator)
            if known is not None:
                made.load_state_dict(
                    {name: torch.from_numpy(one.astype(np.float32)) for name, one in known.items()}
                )
            return made

        recipe = replace(RECIPE, epochs=epochs)
        windows: Any = _Predicted(history_deg, predicted_deg)
        learner = Learner(make, windows, recipe=recipe, seed=self._seed)
        error = [learner.epoch() for _ in range(epochs)][-1]
        arrays = {name: value.numpy() for name, value in learner.halved()[1].items()}
        shape = {"history": history_deg.shape[1], "horizon": horizon, "hidden": hidden}
        self.weights = Weights(arrays=arrays, meta={**shape, "rate_hz": rate_hz})
        return error


class _Predicted:
    """Windows, and what somebody predicts for each."""

    def __init__(self, history_deg: np.ndarray, predicted_deg: np.ndarray) -> None:
        self._history = torch.from_numpy(history_deg.astype(np.float32))
        self._predicted = torch.from_numpy(predicted_deg.astype(np.float32))

    def __len__(self) -> int:
        return len(self._history)

    def at(
        self, rows: Int[Tensor, "batch"], *, mirrored: Bool[Tensor, "batch"] | None = None
    ) -> tuple[Tensor, Tensor, None]:
        """History, prediction, and nothing beside them."""
        return self._history[rows], self._predicted[rows], None
