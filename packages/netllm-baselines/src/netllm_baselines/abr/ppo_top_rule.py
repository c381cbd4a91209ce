"""PPO that also dares the top level: a teacher for what a single step of learning never finds."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from netllm_sims.abr import Setting

from netllm_baselines.abr.ppo import PPO

GO_UP = ((1.05, 12.0), (0.95, 20.0), (0.9, 28.0), (0.6, 36.0))
"""Pairs of the least throughput, as a share of the top level's coming rate, and the least buffer in
s, at which the top level is taken."""
STAY = ((0.9, 8.0), (0.5, 16.0))
"""The same for staying there."""
_LEAST_KNOWN = 4
_LEAST_LEFT = 2


class TopRule:
    """`PPO` that takes the top level where it takes the one below and the link bears the top.

    One chunk at the top cannot pay, since the QoE takes the change up and the change down from it,
    so a policy that learns from its own steps does not find out that several do: `PPO` never plays
    the top level. This rule takes it when the harmonic mean of the measured throughputs and the
    buffer reach one pair of `GO_UP`, and stays while they reach one of `STAY`. It is made to be
    learned from, not to be a rival.

    Args:
        setting: Its ladder must have as many rates as PPO's weights.
    """

    def __init__(self, setting: Setting) -> None:
        self._ppo = PPO(setting)
        self._chunk_s = setting.video.chunk_s

    def reset(self, seed: int) -> None:
        """It keeps nothing."""

    def act(
        self, observation: Mapping[str, Shaped[np.ndarray, "batch ..."]]
    ) -> Int[np.ndarray, " batch"]:
        """The level of the next chunk."""
        best: Int[np.ndarray, " batch"] = self.probabilities(observation).argmax(axis=1)
        return best

    def probabilities(
        self, observation: Mapping[str, Shaped[np.ndarray, "batch ..."]]
    ) -> Float[np.ndarray, "batch level"]:
        """PPO's, with the mass of the level below the top moved to the top where it is taken."""
        found = self._ppo.probabilities(observation)
        top = found.shape[1] - 1
        at_top = np.asarray(observation["level"]) == top
        known = (np.asarray(observation["throughput_mbps"]) > 0).sum(axis=1)
        left = np.asarray(observation["chunks_left"])
        may = (known >= _LEAST_KNOWN) & (left >= _LEAST_LEFT) & (found.argmax(axis=1) == top - 1)
        up = ~at_top & may & self._borne(observation, GO_UP)
        found[up, top] += found[up, top - 1]
        found[up, top - 1] = 0
        found[at_top & self._borne(observation, STAY)] = np.eye(top + 1)[top]
        return found

    def _borne(
        self,
        observation: Mapping[str, Shaped[np.ndarray, "batch ..."]],
        pairs: tuple[tuple[float, float], ...],
    ) -> Bool[np.ndarray, " batch"]:
        """Whether throughput and buffer reach one of the pairs."""
        throughput = np.asarray(observation["throughput_mbps"])
        known = throughput > 0
        slowness = np.where(known, 1 / np.maximum(throughput, 1e-6), 0).sum(axis=1)
        mean_mbps = known.sum(axis=1) / np.maximum(slowness, 1e-9)
        top_mbps = 8 * np.asarray(observation["sizes_mb"])[:, 0, -1] / self._chunk_s
        buffer_s = np.asarray(observation["buffer_s"])
        reached = [(mean_mbps >= share * top_mbps) & (buffer_s >= least) for share, least in pairs]
        borne: Bool[np.ndarray, " batch"] = np.any(reached, axis=0)
        return borne
