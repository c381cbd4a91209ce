"""PPO: a small network trained by reinforcement learning on the simulator."""

from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped
from netllm_sims.abr import Setting

from netllm_baselines.abr.ppo_features import features, width
from netllm_baselines.perceptron import Perceptron


class PPO:
    """Levels chosen by a PPO-trained perceptron, in batches and without torch.

    The shipped weights are `ppo-default.npz` (trained on the train part of `default`) and
    `ppo-synthetic.npz` (on `synthetic`), taken by where the setting's traces come from; how they
    were made is in `actor.meta`.

    Source: Schulman et al., "Proximal Policy Optimization Algorithms", 2017; training and its
        differences are in `ppo_training`.

    Args:
        setting: its ladder must have as many rates as the weights.
        sample: draw levels by their probability instead of taking the most probable.
        weights: a `.npz` written by `train_ppo`, or an actor; None takes the shipped one.

    Raises:
        ValueError: the weights are for a ladder of another length.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        sample: bool = False,
        weights: Path | str | Perceptron | None = None,
    ) -> None:
        if weights is None:
            weights = self.shipped(setting)
        self.actor = weights if isinstance(weights, Perceptron) else Perceptron.load(Path(weights))
        levels = len(setting.video.rates_kbps)
        if (self.actor.outputs, len(self.actor.mean)) != (levels, width(levels)):
            where = "" if isinstance(weights, Perceptron) else f"{weights}: "
            raise ValueError(
                f"{where}PPO's weights must fit the ladder: they choose among "
                f"{self.actor.outputs} rates by {len(self.actor.mean)} features, "
                f"setting {setting.name!r} has {levels} and {width(levels)}. Train your own: "
                "netllm train-baseline abr ppo --out FILE.npz, then pass weights=FILE.npz; "
                "netllm test abr --policy ppo:FILE.npz."
            )
        self._sample = sample
        self._rng = np.random.default_rng(0)

    @staticmethod
    def shipped(setting: Setting) -> Path:
        """Where the weights for a setting lie in this package."""
        return _file("ppo-synthetic.npz" if setting.synthetic else "ppo-default.npz")

    def reset(self, seed: int) -> None:
        """Start the stream of the sampled levels anew."""
        self._rng = np.random.default_rng(seed)

    def probabilities(
        self, observation: Mapping[str, Shaped[np.ndarray, "batch ..."]]
    ) -> Float[np.ndarray, "batch level"]:
        """Probability of each level."""
        return self.actor.probabilities(features(observation))

    def act(
        self, observation: Mapping[str, Shaped[np.ndarray, "batch ..."]]
    ) -> Int[np.ndarray, " batch"]:
        """The level of the next chunk."""
        if self._sample:
            return self.actor.drawn(features(observation), self._rng)
        best: Int[np.ndarray, " batch"] = self.actor.logits(features(observation)).argmax(axis=1)
        return best


PPOSampled = partial(PPO, sample=True)
"""`PPO` that draws its levels."""


class PPOWide(PPO):
    """`PPO` trained in randomised worlds: other bandwidths and chunk sizes than those recorded.

    The same network and the same observations; one set of weights, `ppo-wide.npz`, serves every
    setting. It gives up a little where `PPO` was trained and gains elsewhere, and it plays the top
    level. Its training is `ppo_wide_training`; `train_ppo_wide` writes weights of one's own.
    """

    @staticmethod
    def shipped(setting: Setting) -> Path:
        """Where the weights for every setting lie in this package."""
        return _file("ppo-wide.npz")


PPOWideSampled = partial(PPOWide, sample=True)
"""`PPOWide` that draws its levels."""


def _file(name: str) -> Path:
    return Path(str(files("netllm_baselines.abr") / "weights" / name))
