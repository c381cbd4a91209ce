"""Decima: a graph network that chooses a stage, then executors for it."""

import os
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines.cjs.decima_weights import Weights

if TYPE_CHECKING:
    from netllm_sims.cjs import Setting

DEMAND = 4
"""Column of the observation's `stages`."""
OURS = Path(str(files("netllm_baselines.cjs") / "weights" / "decima-ours.safetensors"))
"""Weights of our own training, in this package."""


class Decima:
    """The published network: message passing along each job's graph, sums per job and in all.

    A schedulable stage is drawn by a softmax over scores, then 1 to as many executors as its job
    may get by another. Draws come from one stream per episode number, so they do not depend on
    which episodes are asked about together.

    Args:
        setting: Gives the data folder.
        greedy: Take the best stage and the best number instead; worse with the published weights.
        weights: A file, or weights; by default `cjs/weights/decima.safetensors` in the data
            folder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.

    Source: Mao et al., "Learning Scheduling Algorithms for Data Processing Clusters", SIGCOMM
        2019, as implemented by Gertsman's spark-sched-sim, with the weights of NetLLM's
        cluster_job_scheduling, commit 105bcf07. That code takes its draws from Python's global
        stream, which task durations share; given the same uniforms, the choices are the same.
    """

    def __init__(
        self,
        setting: "Setting",
        *,
        greedy: bool = False,
        weights: str | Path | Weights | None = None,
    ) -> None:
        if weights is None:
            weights = _find(setting)
        self.weights = weights if isinstance(weights, Weights) else Weights.load(Path(weights))
        self.greedy = greedy
        self._network = self.weights.packed()
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Start the streams of all episodes anew."""
        self._seed = seed
        self._streams: dict[int, np.random.Generator] = {}

    def act(self, observation: Mapping[str, ndarray]) -> Int[ndarray, "batch 2"]:
        """Choice and executors for each episode of the observation."""
        episodes = observation["episode"].tolist()
        if self.greedy:
            uniforms = np.zeros((len(episodes), 2))
        else:
            uniforms = np.array([self._stream(k).random(2) for k in episodes])
        return self.choose(observation, uniforms)[0]

    def _stream(self, episode: int) -> np.random.Generator:
        if episode not in self._streams:
            self._streams[episode] = np.random.default_rng([self._seed, episode])
        return self._streams[episode]

    def choose(
        self, observation: Mapping[str, ndarray], uniforms: Float[ndarray, "batch 2"]
    ) -> tuple[Int[ndarray, "batch 2"], Float[ndarray, "batch 2"]]:
        """Choices and executors at these places of the softmaxes, and their log-probabilities."""
        from netllm_baselines.cjs import _decima_compiled as compiled

        seen = describe(observation, self.weights.features)
        batch, stages = len(observation["executors"]), len(observation["stages"])
        actions, log_probability = np.empty((batch, 2), np.int64), np.empty((batch, 2))
        most = 1 + max(stages, int(observation["executors"].max()))
        scratch = (
            np.empty((4, stages, compiled.WIDTH), np.float32),
            np.empty((len(observation["jobs"]) + batch, compiled.WIDTH), np.float32),
            np.empty((5, 128), np.float32),
            np.empty(most, np.float32),
            np.empty((2, stages), np.int64),
        )
        compiled.act(
            self._network,
            seen,
            np.ascontiguousarray(observation["stages"][:, DEMAND]),
            observation["edges"],
            observation["schedulable"],
            observation["stage_job"],
            np.stack([observation[f"{name}_ptr"] for name in ("job", "stage", "edge")]),
            observation["executors"],
            uniforms,
            self.greedy,
            scratch,
            actions,
            log_probability,
        )
        return actions, log_probability


DecimaGreedy = partial(Decima, greedy=True)
"""`Decima` by its best stage and the best number of executors for it."""
DecimaOurs = partial(Decima, weights=OURS)
"""An extended `Decima` that we trained on the simulator; see `decima_training`."""


def describe(
    observation: Mapping[str, ndarray], features: int
) -> tuple[Float[ndarray, "stage _"], Int[ndarray, "job"], Int[ndarray, "stage"]]:
    """Features and depths of stages, and how many executors each job may still get."""
    from netllm_baselines.cjs import _decima_features

    stages = len(observation["stages"])
    x = np.empty((stages, features), np.float32)
    room, depth = np.empty(len(observation["jobs"]), np.int64), np.empty(stages, np.int64)
    _decima_features.describe(
        observation["stages"],
        observation["jobs"],
        observation["edges"],
        observation["frontier"],
        observation["stage_job"],
        np.ascontiguousarray(observation["job_ptr"]),
        observation["committable"],
        observation["executors"],
        x,
        room,
        depth,
    )
    return x, room, depth


def _find(setting: "Setting") -> Path:
    data = setting.data or os.environ.get("NETLLM_DATA")
    if not data:
        raise FileNotFoundError(
            "`decima` needs its published weights `cjs/weights/decima.safetensors`, got no data "
            "folder. Set NETLLM_DATA or pass `data`."
        )
    return Path(data) / "cjs" / "weights" / "decima.safetensors"
