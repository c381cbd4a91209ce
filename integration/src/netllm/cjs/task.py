"""Cluster job scheduling: commit executors to the stages of jobs that keep arriving.

A job is a graph of stages, each of many equal tasks. When executors are released, the scheduler
names a stage and how many of them it gets, again and again until all are committed or it chooses
to wait. What counts is the mean time from a job's arrival to its end (JCT, in s).

This module is the whole task on one page: simulator (`netllm_sims.cjs`), what the model sees
(`netllm.cjs.observation`), how it answers (`CJS.head`: a stage, then executors given it,
in one pass), the rivals (`netllm_baselines.cjs`), the metric and the recipe.

Source: NetLLM (Wu et al., SIGCOMM 2024), sections 4 and A.3; the simulator is that of its public
code, after Decima (Mao et al., SIGCOMM 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from netllm_adapt.training.recipe import Recipe

from netllm.cjs.observation import JOBS, STAGES
from netllm.cjs.state import State
from netllm.task import Metric, ObservationField, Policy, PoolTask

if TYPE_CHECKING:
    from netllm_adapt import AdaptedModel, Pool
    from netllm_sims.cjs import Episode, Setting
    from torch import nn

    from netllm.cjs.environment import AdvisedClusters

_FIRST_JOBS = 20
"""So many jobs of a sequence warm a policy up."""
RETURN_SCALE = 50.0
"""Typical mean JCT, in s."""


@dataclass(frozen=True)
class GraphRecipe(Recipe):
    """How a model of cluster job scheduling is adapted: the fields of every recipe, and graphs."""

    conv: str = "decima"
    """How a stage learns of its children: `decima`, `gin`, `gat`, `sage`, a layer of PyG."""


class CJS(PoolTask):
    """Cluster job scheduling."""

    name = "cjs"
    metrics = (
        Metric("jct_s", "mean JCT s", higher_is_better=False),
        Metric("p90_jct_s", "90 % JCT s", higher_is_better=False),
        Metric("makespan_s", "makespan s", higher_is_better=False),
        Metric("fairness", "fairness", share=True),
        Metric("utilisation", "utilisation", share=True),
    )
    rivals = ("fifo", "fair", "weighted-fair", "tuned-share", "decima", "decima-ours")
    fallback = "fair"
    published = frozenset({"decima"})
    trainers: Mapping[str, str] = {
        "decima-ours": "netllm_baselines.cjs.decima_training:train_decima"
    }
    importers = "netllm_sims.cjs.importers"
    planner = "netllm.cjs.planner:Planner"
    columns: Mapping[str, Sequence[str]] = {"stages": tuple(STAGES), "jobs": tuple(JOBS)}
    candidates = "netllm.cjs.candidates:candidates"
    plots: Mapping[str, str] = {
        "cdf.png": "netllm.cjs.plots:job_cdf",
        "box.png": "netllm.cjs.plots:boxes",
        "gantt.png": "netllm.cjs.plots:gantt",
    }
    simulator = "netllm_sims.cjs"
    validation = 8
    chunk = 10
    shard = 4
    asks_once = True
    State = State
    layers = 4
    training: Mapping[str, Any] = {
        "steps": 1_200,
        "micro_batch": 8,
        "average": 0.99,
        "segment": 512,
        "window": 5,
        "validate_every": 600,
    }
    teacher = "tuned-share"
    reason = "all jobs are done"

    def by_seed(self, setting: Setting, part: str, seeds: Sequence[int]) -> Sequence[Episode]:
        """The job sequences of these seeds."""
        return setting.episodes(part, seeds=seeds)

    def episodes(
        self, setting: Setting, part: str, *, count: int | None = None, seed: int = 0
    ) -> Sequence[Episode]:
        """Job sequences of a part; a choice by the seed, if fewer than all are wanted."""
        return setting.episodes(part, episodes=count, seed=seed)

    def beginning(self, episode: Episode) -> Episode:
        """Its first jobs; all of them if recorded durations say how long each task takes."""
        from netllm_sims.cjs import Sampled, Workload

        if not isinstance(episode.durations, Sampled):
            return episode
        first = Workload(episode.jobs.jobs[:_FIRST_JOBS], episode.jobs.catalogue)
        return replace(episode, jobs=first)

    def clusters(
        self, setting: Setting, episodes: Sequence[Episode]
    ) -> Mapping[str, Mapping[str, str]]:
        """The job sequence of each episode: one may be run with several draws of durations."""
        return {episode.id: {"job sequence": str(episode.seed)} for episode in episodes}

    def environment(
        self, setting: Setting, episodes: Sequence[Episode], *, seed: int, record: bool
    ) -> AdvisedClusters:
        """A cluster for each job sequence; what `tuned-share` advises is kept in pools."""
        from netllm.cjs.environment import AdvisedClusters

        return AdvisedClusters(setting, episodes, record=record)

    def seen(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Stages, jobs, their graph, and what is advised; see `netllm.cjs.observation`."""
        from netllm.cjs.observation import seen

        return seen(observation, observation["advice"]) | {"reward": observation["reward"]}

    def observation_fields(self, setting: Setting) -> Mapping[str, ObservationField]:
        """What `netllm_sims.cjs.observe` shows, without what only tells rows apart."""
        from netllm.cjs.observation_fields import OBSERVATION_FIELDS

        return OBSERVATION_FIELDS

    def running(self, observation: Mapping[str, Any]) -> Mapping[int, Any]:
        """The clusters as far as they are seen: rules need no more."""
        from netllm_sims.cjs.observed import observed

        return observed(observation)

    def about(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Mean JCT and job sequence of an episode."""
        return {"jct_s": row["jct_s"], "sequence": row["seed"]}

    def encoder(self, setting: Setting, recipe: Recipe, *, width: int) -> nn.Module:
        """One token per schedulable stage, made by messages along the graph, and three more."""
        from netllm_encoders import Graph

        conv = recipe.conv if isinstance(recipe, GraphRecipe) else "decima"
        return Graph(
            width=width,
            stage_columns=STAGES,
            job_columns=JOBS,
            return_scale=RETURN_SCALE,
            conv=conv,
        )

    def head(self, setting: Setting, *, width: int) -> nn.Module:
        """A stage out of those that may be chosen, or none; then executors, given the stage."""
        from netllm_heads import Pointer

        from netllm.cjs.observation import COLUMN

        return Pointer(width=width, demand=COLUMN["demand"], advised=COLUMN["advised"])

    def policy(self, model: AdaptedModel, setting: Setting) -> Policy:
        """The model with its rolling cache of keys and values."""
        from netllm.cjs.adapted_scheduler import Scheduler

        return Scheduler(model, setting)

    def usual_recipe(self) -> Recipe:
        """A recipe with the graph convolution's name too."""
        return GraphRecipe()

    def fit(self, model: AdaptedModel, experience: Pool, **run: Any) -> AdaptedModel:
        """Learn the labels of the pool's decisions; see `netllm_adapt.fit`."""
        from netllm.cjs.observation import most_jobs

        model.state["most_jobs"] = most_jobs(experience)
        return super().fit(model, experience, **run)
