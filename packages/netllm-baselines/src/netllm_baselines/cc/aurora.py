"""Aurora: a small network trained by reinforcement learning on the simulator."""

from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from netllm_sims.cc import FACTORS
from numpy import ndarray

from netllm_baselines.cc.aurora_features import WIDTH, features
from netllm_baselines.perceptron import Perceptron

if TYPE_CHECKING:
    from netllm_sims.cc import Setting

COMMAND = "netllm train-baseline cc aurora"


class Aurora:
    """Factors chosen by a PPO-trained perceptron, in batches and without torch.

    The shipped weights, `aurora.npz`, were trained on the train part of `default` and serve every
    setting; how they were made is in `actor.meta`.

    Source: Jay et al., ICML 2019. Differences: the answer is one of nine factors, not a number;
    eight intervals are seen, not ten, with the share lost beside; trained on `Setting`'s links for
    its utility, see `aurora_training`.

    Args:
        setting: Where it acts; one set of weights serves every setting.
        sample: Draw factors by their probability instead of taking the most probable.
        weights: A `.npz` written by `train_aurora`, or an actor; None takes the shipped one.

    Raises:
        ValueError: Weights of another shape.
    """

    def __init__(
        self,
        setting: "Setting",
        *,
        sample: bool = False,
        weights: Path | str | Perceptron | None = None,
    ) -> None:
        where = "The actor"
        if not isinstance(weights, Perceptron):
            file = Path(weights or str(files("netllm_baselines.cc") / "weights" / "aurora.npz"))
            where, weights = str(file), Perceptron.load(file, "aurora", task="cc")
        self.actor = weights
        if (self.actor.outputs, len(self.actor.mean)) != (len(FACTORS), WIDTH):
            raise ValueError(
                f"{where} must choose among {len(FACTORS)} factors by {WIDTH} features, got "
                f"{self.actor.outputs} and {len(self.actor.mean)}. Train your own: {COMMAND} --out "
                "FILE.npz."
            )
        self._sample = sample
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int) -> None:
        """Start the stream of the sampled factors anew."""
        self._rng = np.random.default_rng(seed)

    def probabilities(self, observation: Mapping[str, ndarray]) -> Float[ndarray, "batch factor"]:
        """Probability of each factor."""
        return self.actor.probabilities(features(observation))

    def act(self, observation: Mapping[str, ndarray]) -> Int[ndarray, "batch"]:
        """An index of `netllm_sims.cc.FACTORS` for each flow."""
        if self._sample:
            return self.actor.drawn(features(observation), self._rng)
        return self.actor.logits(features(observation)).argmax(axis=1)


AuroraSampled = partial(Aurora, sample=True)
"""`Aurora` that draws its factors."""
