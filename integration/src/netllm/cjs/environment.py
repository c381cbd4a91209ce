"""The clusters that a policy decides about, and the rule that is asked beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from netllm_sims.cjs.fairness import fairness
from netllm_sims.cjs.rollout import Clusters
from netllm_sims.rollout import batch_seed

if TYPE_CHECKING:
    from netllm_sims.cjs import Episode, Setting
    from netllm_sims.cjs.compiled_policies import Askable

Running: TypeAlias = "Sequence[Askable] | Mapping[int, Askable]"
"""The clusters of some episodes, by their numbers."""
GANTT_S = 300.0
"""Of the first episode, for the plot of who works on what."""


class Advice:
    """What `tuned-share` would do: a compiled rule, so that asking it costs microseconds."""

    def __init__(self, setting: Setting) -> None:
        from netllm_baselines.cjs import TunedShare

        self._rule = TunedShare(setting)
        self._simulators: Running = ()

    def begin(self, simulators: Running) -> None:
        """Take the simulators whose episodes it will be asked about, or what is seen of them."""
        self._simulators = simulators

    def __call__(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Choice among the schedulable stages (-1 none) and executors, per episode.

        Raises:
            RuntimeError: `begin` was not called.
        """
        if not self._simulators:
            raise RuntimeError("`begin` must be called with the simulators before `act`.")
        running = (self._simulators[k] for k in observation["episode"])
        return np.array([simulator.ask(self._rule) for simulator in running], np.int64)


class AdvisedClusters(Clusters):
    """Clusters whose rewards sum to minus the mean JCT in s, whatever the number of jobs.

    Args:
        setting: theirs.
        episodes: their job sequences.
        record: whether every observation says what is advised, as pools keep it.
    """

    def __init__(self, setting: Setting, episodes: Sequence[Episode], *, record: bool) -> None:
        from netllm_baselines.cjs import Random

        super().__init__(setting, episodes, log=0 if record else 1)
        self._num_jobs = setting.num_jobs
        self._random = Random(setting)
        self._advice = Advice(setting) if record else None
        if self._advice is not None:
            self._advice.begin(self.simulators)

    def observation(self) -> dict[str, np.ndarray]:
        """That of `netllm_sims.cjs`, and if it is recorded `advice`."""
        seen = super().observation()
        return seen if self._advice is None else seen | {"advice": self._advice(seen)}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Commit executors in the episodes that go on."""
        rewards_ms, over = super().step(actions)
        return rewards_ms * 1e-3 / self._num_jobs, over

    def final(self) -> dict[str, np.ndarray]:
        """What is seen when nothing is left to decide, and so nothing advised."""
        return super().final() | {"advice": np.tile([-1, 0], (len(self.simulators), 1))}

    def dice(self, seed: int, number: int) -> np.random.Generator:
        """Who acts at random; how is drawn from a stream of its own."""
        own = batch_seed(seed, number)
        self._random.reset(own)
        return np.random.default_rng([own, 1])

    def random_actions(
        self, observation: Mapping[str, np.ndarray], dice: np.random.Generator, count: int
    ) -> np.ndarray:
        """A random schedulable stage and number of executors for each episode."""
        return self._random.act(observation)

    def figures(self) -> dict[str, Any]:
        """Mean JCT of every job sequence, and what else is known of it."""
        found = super().figures()
        jobs_s = found["job_jct_s"]
        return {
            "seed": [one.episode.seed for one in self.simulators],
            "jct_s": [float(own.mean()) for own in jobs_s],
            "p90_jct_s": [float(np.quantile(own, 0.9)) for own in jobs_s],
            "makespan_s": [float(value) for value in found["makespan_s"]],
            "fairness": [fairness(one) for one in self.simulators],
            "utilisation": [float(value) for value in found["utilisation"]],
            "jct_percentiles_s": [
                np.round(np.percentile(own, range(101)), 2).tolist() for own in jobs_s
            ],
            "gantt": [own if own is None else _shown(own) for own in found["stretches"]],
        }


def _shown(stretches: np.ndarray) -> list[list[float]]:
    """The first stretches of work, for a plot."""
    shown: list[list[float]] = np.round(stretches[stretches[:, 2] < GANTT_S], 2).tolist()
    return shown
