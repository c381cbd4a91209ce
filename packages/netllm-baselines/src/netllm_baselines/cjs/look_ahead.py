"""The policy `rollout`: choices that are simulated ahead before one is taken."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines.cjs.tuned_share import TunedShare

if TYPE_CHECKING:
    from netllm_sims.cjs import Setting, Simulator


class Rollout:
    """What tuned-share would choose, unless simulations say that another choice is better.

    Candidates are tuned-share's choice, none (where there is more to wait for than the next job),
    Fair's, and the schedulable stages with several numbers of executors. Each is simulated ahead,
    followed by tuned-share, until the present jobs are finished; its cost is the time that these
    take together. With g = the cost of tuned-share's choice minus the candidate's under the same
    draws, the one with the largest mean g is taken whose mean g > threshold · (standard deviation
    of g) / √draws, and else tuned-share's.

    Draws go to those that need them: after half of the first ones a third of the candidates stays,
    after all of them the best two with a mean g > -threshold standard errors, after half of the
    further ones the best one. Against 4 draws for all and 8 for three this takes about 0.65 of the
    simulations, for some 3 % less gain per decision.

    Simulations do not know the future: durations of tasks to come are their own draws, those of
    running tasks are drawn anew given that they have lasted until now, and no job arrives. They do
    know, beyond the observation, the profiles that durations are drawn from, and which executors
    are slow. Answers
    depend on the seed, the job sequence and the state, not on the batch (`rollout(batch=…)` gives
    each batch a seed of its own).

    Args:
        setting: Tells tuned-share's numbers.
        candidates: Most choices that are compared, at least 1.
        samples: First draws, at least 2.
        more: Further draws for tuned-share's choice and the best two others.
        threshold: Least gain in standard errors.

    Raises:
        ValueError: A number outside its range.

    Source: ours; policy improvement by rollouts, Tesauro & Galperin 1996.
    """

    knows = "job profiles"

    def __init__(
        self,
        setting: "Setting",
        *,
        candidates: int = 12,
        samples: int = 4,
        more: int = 8,
        threshold: float = 0.7,
    ) -> None:
        numbers = ("candidates", candidates, 1), ("samples", samples, 2), ("more", more, 0)
        for name, value, least in numbers:
            if value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}.")
        if not (isfinite(threshold) and threshold >= 0):
            raise ValueError(f"`threshold` must be finite and >= 0, got {threshold}.")
        if setting.slow_executors:
            self.knows = "job profiles, slow executors"
        self._candidates, self._samples, self._more = candidates, samples, more
        self._threshold = float(threshold)
        self._parameters = TunedShare(setting).parameters
        self._episodes: list[_Episode] = []
        self._seed = 0
        self._seen: list[tuple[int, int]] = []

    def reset(self, seed: int) -> None:
        """Forget the episodes; the draws follow `seed`."""
        self._episodes, self._seed, self._seen = [], seed, []

    def begin(self, simulators: Sequence["Simulator"]) -> None:
        """Take the simulators whose episodes it will be asked about."""
        sizes = self._candidates, self._samples + self._more
        self._episodes = [_Episode(s, self._seed, *sizes) for s in simulators]
        self._seen = []

    def act(self, observation: Mapping[str, ndarray]) -> Int[ndarray, "batch 2"]:
        """Choice and executors for each episode of the observation.

        Raises:
            RuntimeError: `begin` was not called.
        """
        return self._answers(observation)[0]

    def improve(
        self, observation: Mapping[str, ndarray], standing: Int[ndarray, "batch 2"]
    ) -> Int[ndarray, "batch 2"]:
        """Choice and executors for each episode: the standing ones unless others surely gain.

        The standing answers are the first candidates, and others must beat them in the place of
        tuned-share's, which are candidates too.

        Raises:
            RuntimeError: `begin` was not called.
        """
        episodes = self._asked(observation)
        found = zip(episodes, standing.tolist(), strict=True)
        return np.array([self._search(episode, *answer)[0] for episode, answer in found], np.int64)

    def weighed(self, observation: Mapping[str, ndarray]) -> Float[ndarray, "batch candidate 3"]:
        """Per episode the candidates: choice, executors, and weight.

        A better lesson than `act`, which takes one of several equally good candidates: the weights
        of a decision say how likely each is the best, and sum to what is at stake, about 1 on
        average. Rows beyond the last candidate weigh nothing.

        Raises:
            RuntimeError: `begin` was not called.
        """
        return self._answers(observation)[1]

    def _answers(self, observation: Mapping[str, ndarray]) -> tuple[ndarray, ndarray]:
        """Choices and candidates of a state, both found by one search."""
        episodes = self._asked(observation)
        seen = [(id(episode), episode.simulator.decisions) for episode in episodes]
        if self._seen != seen:
            choices, candidates = zip(*map(self._search, episodes), strict=True)
            self._seen, self._found = seen, (np.array(choices, np.int64), np.stack(candidates))
        return self._found

    def _asked(self, observation: Mapping[str, ndarray]) -> list["_Episode"]:
        if not self._episodes:
            raise RuntimeError("`begin` must be called with the simulators first.")
        return [self._episodes[k] for k in observation["episode"]]

    def _search(
        self, episode: "_Episode", choice: int = -1, executors: int = 0
    ) -> tuple[tuple[int, int], ndarray]:
        """The answer, and all candidates; with executors that answer stands first."""
        from netllm_baselines.cjs._look_ahead_search import search

        world, state = episode.simulator.world, episode.simulator.state
        schedulable = episode.simulator.schedulable
        standing = np.array([schedulable[choice] if choice >= 0 else -1, executors], np.int64)
        stage, executors = search(
            world, state, episode.twin, episode.scratch, standing, self._parameters, episode.seed,
            self._samples, self._more, self._threshold,
        )  # fmt: skip
        place = {s: i for i, s in enumerate(schedulable.tolist())} | {-1: -1}
        candidates = np.zeros((self._candidates, 3), np.float32)
        listed = np.flatnonzero(episode.scratch.weights)
        for row, c in enumerate(listed):
            chosen, given = episode.scratch.choices[c]
            candidates[row] = place[chosen], max(1, given), episode.scratch.weights[c]
        return (place[stage], max(1, executors)), candidates

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_episodes": [], "_seen": []}


class _Episode:
    """A running episode and the arrays for its simulations."""

    def __init__(self, simulator: "Simulator", seed: int, candidates: int, samples: int) -> None:
        from netllm_sims.cjs.engine.state_arrays import build_state

        from netllm_baselines.cjs._look_ahead_search import Scratch

        world = simulator.world
        jobs, stages = len(world.arrival_ms), len(world.tasks)
        executors = len(simulator.state.heap_ms)
        self.simulator = simulator
        entropy = np.random.SeedSequence([seed % 2**64, simulator.episode.seed % 2**64])
        self.seed = entropy.generate_state(1, np.uint64).astype(np.int64)[0]
        self.twin = build_state(world)
        self.scratch = Scratch(
            jobs=np.zeros(jobs, np.int64),
            order=np.zeros(stages, np.int64),
            rank=np.zeros(max(stages, candidates)),
            choices=np.zeros((candidates, 2), np.int64),
            costs_ms=np.zeros((candidates, samples)),
            weights=np.zeros(candidates),
            stays=np.zeros(candidates, np.int64),
            heap_ms=np.zeros(executors),
            heap=np.zeros((executors, 2), np.int64),
            even=np.zeros(1),
        )
