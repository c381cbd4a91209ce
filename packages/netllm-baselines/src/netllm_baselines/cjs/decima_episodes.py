"""Episodes that Decima learns from, and what is recorded of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from netllm_sims.cjs import (
    Episode,
    Heuristic,
    Job,
    Policy,
    Sampled,
    Setting,
    Simulator,
    Workload,
    observe,
)
from numpy import ndarray

from netllm_baselines.cjs.decima import Decima
from netllm_baselines.cjs.decima_batches import Decisions
from netllm_baselines.cjs.decima_recipe import DecimaRecipe

_RECENT_MS, _UNSTARTED, _RUNNING = 6, 0, 1
"""Columns of the observation's `stages`."""


def training(
    setting: Setting, *, recipe: DecimaRecipe, jobs: int, rng: np.random.Generator
) -> list[Episode]:
    """Parts of random training sequences; episodes of one sequence lie beside one another.

    Each part begins at a random job, its arrivals come faster or slower, and its episodes share
    their luck.
    """
    episodes = []
    seeds = [episode.seed for episode in setting.episodes("train")]
    for number in range(recipe.sequences):
        seed, luck = int(rng.choice(seeds)), int(rng.integers(2**31))
        whole = setting.workload(seed)
        count = min(jobs, len(whole))
        first = int(rng.integers(len(whole) - count + 1))
        load = rng.uniform(recipe.load_low, recipe.load_high)
        some = whole.jobs[first : first + count]
        part = [Job(job.dag, (job.arrival_ms - some[0].arrival_ms) / load) for job in some]
        episode = Episode(
            id=f"{number}", seed=seed, jobs=Workload(part, whole.catalogue), durations=Sampled(luck)
        )
        episodes += [replace(episode, id=f"{number}-{k}") for k in range(recipe.rollouts)]
    return episodes


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One episode of an update."""

    rows: Int[ndarray, "decision"]
    """Its decisions among all."""
    time_s: Float[ndarray, "decision_and_end"]
    """When they were taken, and the end."""
    reward: Float[ndarray, "decision"]
    """Minus the jobs' time in s until the next decision."""
    state: Float[ndarray, "decision 8"]
    """What the critic sees of it; see `summary`."""
    jct_s: float
    """Mean job completion time."""


def play(
    policy: Decima, setting: Setting, episodes: Sequence[Episode], rng: np.random.Generator
) -> tuple[Decisions, Float[ndarray, "decision"], list[Lane]]:
    """Follow the sampled policy: its decisions, their log-probabilities, and each episode."""
    simulators = [Simulator(setting, episode) for episode in episodes]
    seen, acted, lanes = [], [], []
    flat: dict[str, list[ndarray]] = {"log": [], "state": [], "time_s": [], "reward": []}
    running = np.arange(len(simulators))
    while len(running):
        observation = observe([simulators[k] for k in running], running.tolist())
        actions, log_probability = policy.choose(observation, rng.random((len(running), 2)))
        flat["log"].append(log_probability.sum(axis=1))
        flat["state"].append(summary(observation))
        flat["time_s"].append(observation["time_ms"] * 1e-3)
        flat["reward"].append(_step(simulators, running, actions))
        seen.append(observation)
        acted.append(actions)
        lanes.append(running)
        running = running[[not simulators[k].done for k in running]]
    of = np.concatenate(lanes)
    joined = {name: np.concatenate(parts) for name, parts in flat.items()}
    log_probability = joined.pop("log")
    tracks = []
    for k, simulator in enumerate(simulators):
        rows = np.flatnonzero(of == k)
        own = {name: array[rows] for name, array in joined.items()}
        own["time_s"] = np.append(own["time_s"], simulator.time_ms * 1e-3)
        tracks.append(Lane(rows=rows, jct_s=float(simulator.jct_s.mean()), **own))
    return Decisions.of(seen, acted), log_probability, tracks


def demonstrate(
    teacher: Policy, setting: Setting, recipe: DecimaRecipe, rng: np.random.Generator
) -> Decisions:
    """At least `recipe.lessons` decisions of another policy on parts of training sequences."""
    seen, acted, count = [], [], 0
    teacher.reset(int(rng.integers(2**31)))
    while count < recipe.lessons:
        episodes = training(setting, recipe=recipe, jobs=recipe.last_jobs, rng=rng)
        simulators = [Simulator(setting, e) for e in episodes[:: recipe.rollouts]]
        if isinstance(teacher, Heuristic):
            teacher.begin(simulators)
        running = np.arange(len(simulators))
        while len(running):
            seen.append(observe([simulators[k] for k in running], running.tolist()))
            acted.append(teacher.act(seen[-1]))
            _step(simulators, running, acted[-1])
            count += len(running)
            running = running[[not simulators[k].done for k in running]]
    return Decisions.of(seen, acted)


def _step(
    simulators: Sequence[Simulator],
    running: Int[ndarray, "batch"],
    actions: Int[ndarray, "batch 2"],
) -> Float[ndarray, "batch"]:
    """Rewards in s."""
    pairs = zip(running.tolist(), actions.tolist(), strict=True)
    return np.array([simulators[k].step(*action) * 1e-3 for k, action in pairs])


def summary(observation: dict[str, ndarray]) -> Float[ndarray, "batch 8"]:
    """How much is left, for the critic: jobs, work, and completion times if work were a fluid.

    The last is the sum over jobs, shortest first, of the time until all executors together would
    have finished it: once in full, once with every time cut to 200 s.
    """
    stages, ptr = observation["stages"].astype(float), observation["job_ptr"]
    left_s = (stages[:, _UNSTARTED] + 0.5 * stages[:, _RUNNING]) * stages[:, _RECENT_MS] * 1e-3
    work_s = np.bincount(observation["stage_job"], left_s, minlength=ptr[-1])
    cluster = np.repeat(observation["executors"], np.diff(ptr))
    which = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))
    order = np.lexsort((work_s, which))
    running = np.cumsum(work_s[order] / cluster)
    before = np.append(0, running)[ptr[:-1]]
    done_s = running - before[which]

    def total(values: ndarray) -> ndarray:
        return np.bincount(which, values, minlength=len(ptr) - 1)

    columns = [
        np.diff(ptr) / 10,
        np.log1p(np.diff(ptr)),
        total(work_s) / 5e3,
        np.log1p(total(work_s)) / 5,
        total(done_s) / 1e3,
        total(np.minimum(done_s, 200)) / 1e3,
        np.log1p(total(done_s)) / 5,
        observation["committable"] / observation["executors"],
    ]
    return np.stack(columns, axis=1)
