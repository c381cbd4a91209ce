"""Fugu: stochastic control with a learned predictor of download times."""

from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from netllm_sims.abr import Setting
from numpy import ndarray

from netllm_baselines.abr._chunk_quality import ChunkQuality
from netllm_baselines.abr._session_memory import Observation
from netllm_baselines.abr.fugu_predictor import AHEAD, BINS, TIMES_S, WIDTH, inputs
from netllm_baselines.perceptron import Perceptron


class Fugu:
    """First level of the plan with the best expected QoE, by chances of every download time.

    A small network gives each coming chunk, at every level, a distribution over the time that its
    download takes. Value iteration over the buffer and the last level then finds the levels of the
    next five chunks that earn most in expectation, each chosen when the buffer is known.

    Args:
        setting: Gives QoE, length of a chunk, latency and buffer.
        weights: A `.npz` written by `train_fugu`, or an actor; None takes the shipped one, which
            serves every setting and every ladder.

    Raises:
        ValueError: The weights are no predictor's.
        FileNotFoundError: There is no such file.

    Source: Yan et al., NSDI 2020, section 4. Differences: the predictor learns in the simulator,
    and no statistics of TCP are known there; one network is told how far ahead a download is,
    instead of five; intervals of time widen from 0.1 to 60 s, since chunks here are twice as long
    and links slower; six past chunks are seen, as by every policy, instead of eight.
    """

    def __init__(self, setting: Setting, *, weights: Path | str | Perceptron | None = None) -> None:
        if weights is None:
            weights = self.shipped()
        known = isinstance(weights, Perceptron)
        self.actor = (
            weights if isinstance(weights, Perceptron) else Perceptron.load(Path(weights), "fugu")
        )
        if (self.actor.outputs, len(self.actor.mean)) != (BINS, WIDTH):
            raise ValueError(
                f"{'' if known else f'{weights}: '}Fugu's weights must give {BINS} chances by "
                f"{WIDTH} features, got {self.actor.outputs} by {len(self.actor.mean)}. Train your "
                "own: netllm train-baseline abr fugu --out FILE.npz."
            )
        self._quality = ChunkQuality(setting, AHEAD)
        self._terms = np.array(
            [
                setting.latency_s,
                setting.video.chunk_s,
                setting.buffer_cap_s,
                setting.rebuffering,
                setting.smoothness,
            ]
        )

    @staticmethod
    def shipped() -> Path:
        """Where the weights lie in this package."""
        return Path(str(files("netllm_baselines.abr") / "weights" / "fugu.npz"))

    def reset(self, seed: int) -> None:
        """Do nothing: the observation says it all."""

    def chances(self, observation: Observation) -> Float[ndarray, "batch ahead level time"]:
        """Chance that a download takes each of `TIMES_S`, by chunks ahead and level."""
        seen = inputs(observation, observation["sizes_mb"][:, :AHEAD])
        found = self.actor.probabilities(seen.reshape(-1, WIDTH))
        return found.reshape(*seen.shape[:-1], BINS)

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        from netllm_baselines.abr._value_iteration import best_levels

        return best_levels(
            self.chances(observation).astype(np.float64),
            TIMES_S,
            observation["buffer_s"].astype(np.float64),
            observation["level"].astype(np.int64),
            np.minimum(observation["chunks_left"], AHEAD).astype(np.int64),
            self._quality(observation),
            self._terms,
        )
