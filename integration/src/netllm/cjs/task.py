"""Cluster job scheduling: commit executors to the stages of jobs that keep arriving.

A job is a graph of stages, each of many equal tasks. When executors are released, the scheduler
names a stage and how many of them it gets, again and again until all are committed or it chooses
to wait. What counts is the mean time from a job's arrival to its end (JCT, in s).

This module is the whole task on one page: simulator (`netllm_sims.cjs`), what the model sees
(`seen`, `STAGES`, `JOBS`), how it answers (`CJS.head`: a stage, then executors given it,
in one pass), the rivals (`netllm_baselines.cjs`), the metric and the recipe.

Source: NetLLM (Wu et al., SIGCOMM 2024), sections 4 and A.3; the simulator is that of its public
code, after Decima (Mao et al., SIGCOMM 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netllm.task import Draw, Metric, Outcome, Policy

if TYPE_CHECKING:
    from netllm_adapt import AdaptedModel, Episode, Pool, Recipe
    from netllm_sims.cjs import Episode as Jobs
    from netllm_sims.cjs import Rollout, Setting, Simulator
    from torch import nn

JCT = Metric("jct_s", "mean JCT s", higher_is_better=False)
METRICS = (
    JCT,
    Metric("p90_jct_s", "90 % JCT s", higher_is_better=False),
    Metric("makespan_s", "makespan s", higher_is_better=False),
    Metric("utilisation", "utilisation"),
)

COUNT = {"scale": 5.0, "log": True}
TIME = {"scale": 10_000.0, "log": True}
"""Counts and times in ms span orders of magnitude, and are seen through a logarithm."""

STAGES = {
    **dict.fromkeys(("unstarted", "running", "moving", "committed", "demand", "tasks"), COUNT),
    **dict.fromkeys(("recent_ms", "work_ms", "path_ms"), TIME),
    "advised": COUNT,
}
"""Columns of the simulator, and how many executors `tuned-share` would give the stage now: the
model learns when to do something better (see `cjs_driving.Advice`)."""
COLUMN = {name: column for column, name in enumerate(STAGES)}
JOBS = {
    **dict.fromkeys(("supply", "local", "stages_left"), COUNT),
    "age_ms": TIME,
    "is_source": {"scale": 1.0},
}
RETURN_SCALE = 50.0
"""Typical mean JCT, in s."""

GANTT_S = 300.0
"""Of the first episode, for the plot of who works on what."""


class CJS:
    """Cluster job scheduling, as a `netllm.task.Task`."""

    name = "cjs"
    metrics = METRICS
    rivals = ("fifo", "fair", "weighted-fair", "tuned-share", "decima", "decima-ours")
    bounds: frozenset[str] = frozenset()
    published = frozenset({"decima"})
    supervised = False
    validation = 8
    chooses = True
    chunk = 10
    shard = 4
    asks_once = True
    """A policy that relabels what it drives itself comes to `record` as one object, not as two."""
    trainers: Mapping[str, str] = {
        "decima-ours": "netllm_baselines.cjs.decima_training:train_decima"
    }

    @property
    def draws(self) -> Mapping[str, Draw]:
        """Completion times of jobs and of episodes, and who works on what."""
        from netllm.cjs import plots as own
        from netllm.report import plots

        return {
            "cdf.png": own.job_cdf,
            "box.png": own.boxes,
            "bars.png": partial(plots.bars, metric=JCT),
            "gantt.png": own.gantt,
        }

    def settings(self) -> Mapping[str, str]:
        """The settings by name, with a line about each."""
        from netllm_sims.cjs import settings

        return settings()

    def setting(self, name: str, *, data: str | Path | None = None, **overrides: Any) -> Setting:
        """One setting, with any field overridden."""
        from netllm_sims.cjs import setting

        # Other processes may work in another folder.
        folder = Path(data).resolve() if data is not None else None
        return setting(name, data=folder, **overrides)

    def seeds(self, setting: Setting) -> Sequence[int]:
        """One, of the policies' random streams; the job sequences are those of the part."""
        return (0,)

    def by_seed(self, setting: Setting, part: str, seeds: Sequence[int]) -> Sequence[Jobs]:
        """The job sequences of these seeds."""
        return setting.episodes(part, seeds=seeds)

    def episodes(
        self, setting: Setting, part: str, *, count: int | None = None, seed: int = 0
    ) -> Sequence[Jobs]:
        """Job sequences of a part; a choice by the seed, if fewer than all are wanted."""
        return setting.episodes(part, episodes=count, seed=seed)

    def subsets(self, setting: Setting, episodes: Sequence[Jobs]) -> Mapping[str, frozenset[str]]:
        """None."""
        return {}

    def clusters(
        self, setting: Setting, episodes: Sequence[Jobs]
    ) -> Mapping[str, Mapping[str, str]]:
        """The job sequence of each episode: one may be run with several draws of durations."""
        return {episode.id: {"job sequence": str(episode.seed)} for episode in episodes}

    def rollout(
        self, policy: Policy, setting: Setting, episodes: Sequence[Jobs], *, seed: int
    ) -> Outcome:
        """Mean JCT of every job sequence, and what else is known of it."""
        from netllm_sims.cjs import rollout

        done = rollout(policy, setting, episodes, seed=seed, log=1)
        rows = [_row(done, k) for k in range(len(done.ids))]
        shown = done.stretches[0]
        rows[0]["gantt"] = np.round(shown[shown[:, 2] < GANTT_S], 2).tolist()
        return Outcome(rows, int(done.decisions.sum()), done.seconds)

    def record(
        self,
        policy: Policy,
        setting: Setting,
        episodes: Sequence[Jobs],
        *,
        name: str,
        seed: int,
        label: Policy | None,
        soft: bool,
        epsilon: float,
    ) -> Iterator[Episode]:
        """Episodes for a pool: what was seen, done and earned, and the label's answers."""
        from netllm_baselines.cjs import Random
        from netllm_sims.cjs import rollout

        from netllm.cjs.driving import Mixed, Noted, Once

        if label is policy:
            policy = label = Once(policy)
        driver = Noted(Mixed(policy, Random(setting), epsilon) if epsilon else policy, setting)
        done = rollout(driver, setting, episodes, seed=seed, record=True, label=label, soft=soft)
        for k in range(len(done.ids)):
            yield _episode(done, k, driver.advice[k], name, seed)

    def experience(self, pool: Path | None, setting: Setting, recipe: Recipe) -> Pool:
        """The pool; this task learns from nothing else."""
        from netllm_adapt import Pool

        if pool is None:
            raise ValueError(
                "adapt cjs needs a pool: collect one with `netllm rl-collect cjs --policy "
                "tuned-share --episodes 16 --out POOL` and give it as --pool POOL."
            )
        return Pool(pool)

    def encoder(self, setting: Setting, recipe: Recipe, *, width: int) -> nn.Module:
        """One token per schedulable stage, made by messages along the graph, and three more."""
        from netllm_encoders import Graph

        return Graph(width=width, stage_columns=STAGES, job_columns=JOBS, return_scale=RETURN_SCALE)

    def head(self, setting: Setting, *, width: int) -> nn.Module:
        """A stage out of those that may be chosen, or none; then executors, given the stage."""
        from netllm_heads import Pointer

        return Pointer(width=width, demand=COLUMN["demand"], advised=COLUMN["advised"])

    def assemble(self, recipe: Recipe, **parts: Any) -> AdaptedModel:
        """A model that decides step after step."""
        from netllm_adapt import AdaptedModel

        return AdaptedModel(**parts, window=recipe.window, segment=recipe.segment)

    def policy(self, model: AdaptedModel, setting: Setting) -> Policy:
        """The model with its rolling cache of keys and values."""
        return Scheduler(model, setting)

    def recipe(self, backbone: str) -> Recipe:
        """The best recipe found, on SmolLM2-135M; another backbone keeps all its layers."""
        from netllm_adapt import Recipe

        layers = 4 if backbone.endswith("smollm2-135m") else None
        return replace(
            Recipe(),
            layers=layers,
            steps=1_200,
            micro_batch=8,
            average=0.99,
            segment=512,
            window=5,
            validate_every=600,
        )

    def target_returns(self, experience: Pool) -> Sequence[float]:
        """Median and upper quantile of the pool's returns: minus the mean JCT in s."""
        returns = [episode.rewards.sum() for episode in experience]
        return [float(q) for q in np.quantile(returns, (0.5, 0.9))]

    def fit(self, model: AdaptedModel, experience: Pool, **run: Any) -> AdaptedModel:
        """Learn the labels of the pool's decisions; see `netllm_adapt.training.loop.fit`."""
        from netllm_adapt.training.loop import fit

        present = [episode.observations["jobs"] for episode in experience]
        model.state["most_jobs"] = max(int(np.diff(jobs[1]).max()) for jobs in present)
        return fit(model, experience, **run)


class Scheduler:
    """An adapted model as a policy of `netllm_sims.cjs`.

    The return is minus the mean JCT in s, whatever the number of jobs, so that one target serves
    every setting. The simulator's observation tells what has been spent of it.

    The advice is followed in two cases, so that a wrong answer cannot stop a cluster. With more
    jobs present than there ever were in its pool, the model has nothing to go by. And it may let
    executors wait only in a job whose running tasks are about to unlock a stage: elsewhere nobody
    asks about them again before the next job arrives, and perhaps never.
    """

    def __init__(self, model: AdaptedModel, setting: Setting) -> None:
        from netllm_adapt import Policy

        from netllm.cjs.driving import Advice

        self._policy = Policy(model)
        self._most_jobs = model.state.get("most_jobs", np.inf)
        self._num_jobs = setting.num_jobs
        self._advice = Advice(setting)
        self._spent_ms: dict[int, float] = {}

    def reset(self, seed: int) -> None:
        """Begin new episodes."""
        self._policy.reset(seed)
        self._spent_ms = {}

    def begin(self, simulators: Sequence[Simulator]) -> None:
        """Take the simulators whose episodes it will be asked about."""
        self._advice.begin(simulators)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Choice among the schedulable stages (-1 none) and executors, per episode."""
        episodes = observation["episode"].tolist()
        spent_ms = dict(zip(episodes, observation["job_ms"].tolist(), strict=True))
        before = self._spent_ms or spent_ms
        reward_s = [(before[k] - spent_ms[k]) * 1e-3 / self._num_jobs for k in episodes]
        self._spent_ms = spent_ms
        advice = self._advice(observation)
        fields = seen(observation, advice) | {"reward": np.array(reward_s, np.float32)}
        answer = self._policy.act(fields | {"episode": observation["episode"]})
        advised = np.diff(observation["job_ptr"]) > self._most_jobs
        advised |= (answer[:, 0] < 0) & ~_asked_again(observation)
        if advised.any():
            answer = np.where(advised[:, None], advice, answer)
            self._policy.took(answer)
        return answer


def seen(observation: Mapping[str, np.ndarray], advice: np.ndarray) -> dict[str, Any]:
    """What the model sees of an observation of `netllm_sims.cjs`; rows are counted within steps.

    Args:
        observation: Of a batch of episodes.
        advice: Per episode which of the schedulable stages (-1 none), and executors.
    """
    from netllm_adapt import Ragged

    stages, jobs, edges = (observation[f"{name}_ptr"] for name in ("stage", "job", "edge"))
    parents = np.repeat(stages[:-1], np.diff(edges))[:, None]
    owners = np.repeat(jobs[:-1], np.diff(stages))
    columns = np.column_stack([observation["stages"], _advised(observation, advice)])
    return {
        "stages": Ragged(columns, stages),
        "jobs": Ragged(observation["jobs"], jobs),
        "edges": Ragged((observation["edges"] - parents).astype(np.int32), edges),
        "stage_job": Ragged((observation["stage_job"] - owners).astype(np.int32), stages),
        "schedulable": Ragged(observation["schedulable"], stages),
        "frontier": Ragged(observation["frontier"], stages),
        "committable": observation["committable"],
        "executors": observation["executors"],
        "can_wait": observation["can_wait"],
    }


def _asked_again(observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether the job that has the free executors will soon ask about them again.

    It does when its running tasks end a stage and thereby unlock another. Otherwise executors may
    end up waiting where no event wakes them.
    """
    parent, child = observation["edges"].T
    stages = observation["stages"]
    ending = (stages[:, COLUMN["running"]] > 0) & (stages[:, COLUMN["unstarted"]] == 0)
    alone = np.bincount(child, minlength=len(stages)) == 1
    unlocks = parent[ending[parent] & alone[child]]
    jobs = np.bincount(observation["stage_job"][unlocks], minlength=len(observation["jobs"]))
    source = observation["source_job"]
    return (source >= 0) & (jobs[source] > 0)


def _advised(observation: Mapping[str, np.ndarray], advice: np.ndarray) -> np.ndarray:
    """Executors that every stage is advised to get."""
    listed = np.flatnonzero(observation["schedulable"])
    before = np.searchsorted(listed, observation["stage_ptr"][:-1])
    some = advice[:, 0] >= 0
    rows = listed[before[some] + advice[some, 0]]
    demand = observation["stages"][rows, COLUMN["demand"]]
    advised = np.zeros(len(observation["stages"]), observation["stages"].dtype)
    advised[rows] = np.minimum(
        advice[some, 1], np.minimum(demand, observation["committable"][some])
    )
    return advised


def joined(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was `seen` step by step, as the fields of an episode."""
    from netllm_adapt import Ragged

    fields: dict[str, Any] = {}
    for name, first in steps[0].items():
        values = [step[name] for step in steps]
        if isinstance(first, Ragged):
            ptr = np.cumsum([0, *(len(one.values) for one in values)])
            fields[name] = Ragged(np.concatenate([one.values for one in values]), ptr)
        else:
            fields[name] = np.concatenate(values)
    return fields


def _row(done: Rollout, k: int) -> dict[str, Any]:
    jobs_s = done.job_jct_s[k]
    return {
        "id": done.ids[k],
        "seed": done.seeds[k],
        "jct_s": float(jobs_s.mean()),
        "p90_jct_s": float(np.quantile(jobs_s, 0.9)),
        "makespan_s": float(done.makespan_s[k]),
        "utilisation": float(done.utilisation[k]),
        "jct_percentiles_s": np.round(np.percentile(jobs_s, range(101)), 2).tolist(),
    }


def _episode(done: Rollout, k: int, advice: Sequence[np.ndarray], name: str, seed: int) -> Episode:
    """One recorded episode, with its decisions under one another."""
    from netllm_adapt import Episode

    rewards = (done.rewards_ms[k] * 1e-3 / len(done.job_jct_s[k])).astype(np.float32)
    steps = zip(done.observations[k], advice, strict=True)
    fields = joined([seen(observation, advised[None]) for observation, advised in steps])
    return Episode(
        id=done.ids[k],
        policy=name,
        seed=seed,
        observations=fields | {"reward": np.concatenate([[0], rewards[:-1]]).astype(np.float32)},
        actions=done.actions[k].astype(np.int64),
        rewards=rewards,
        labels=_kept(done.labels[k]) if done.labels else None,
        meta={"jct_s": float(done.job_jct_s[k].mean()), "sequence": done.seeds[k]},
        final=_final(done.final[k]) | {"reward": rewards[-1]},
        ended="terminated",
        reason="all jobs are done",
    )


def _final(observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is seen when nothing is left to decide, and so nothing advised."""
    from netllm_adapt import Ragged

    fields = seen(observation, np.array([[-1, 0]]))
    return {
        name: value.values if isinstance(value, Ragged) else value[0]
        for name, value in fields.items()
    }


def _kept(labels: np.ndarray) -> np.ndarray:
    """Answers of one type whoever gave them; weighed ones as they are."""
    return labels.astype(np.int64) if labels.ndim == 2 else labels
