"""Policies, and how long jobs take under them: whole episodes of one policy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from netllm_sims.cjs import policy_answers
from netllm_sims.cjs.compiled_policies import Heuristic
from netllm_sims.cjs.dag import of
from netllm_sims.cjs.episodes import Episode
from netllm_sims.cjs.fairness import alone_s, jains_index
from netllm_sims.cjs.gantt import stretches
from netllm_sims.cjs.observation import Observation, observe
from netllm_sims.cjs.simulator import Simulator
from netllm_sims.rollout import Batch, Environment, Options, Policy, play

if TYPE_CHECKING:
    from netllm_sims.cjs.settings import Setting

__all__ = ["Clusters", "Policy", "Rollout", "rollout"]


class Clusters(Environment):
    """Job sequences that run side by side, each on a cluster of its own; they end apart.

    `observation["episode"]` says which of them are asked about, by their number in the batch. An
    action is the number of the stage among the schedulable ones (-1 none), and executors; a reward
    is minus the jobs' time until the next decision, in ms.

    Args:
        setting: The setting that the episodes belong to.
        episodes: What to run.
        log: Of how many of the first episodes `stretches` are kept.
        record: Keep what is seen of each episode alone, in `seen`.
    """

    soft_labels: ClassVar[str] = "weighed"

    def __init__(
        self, setting: "Setting", episodes: Sequence[Episode], *, log: int = 0, record: bool = False
    ) -> None:
        self.simulators = [
            Simulator(setting, episode, log=k < log) for k, episode in enumerate(episodes)
        ]
        self._asked = self._open()
        self._weighed: int | None = None
        self._records = record
        self.seen: list[list[Observation]] = [[] for _ in episodes]

    def observation(self) -> Observation:
        """That of `cjs.observe`, of the episodes that go on."""
        if self._records:
            for k in self._asked:
                self.seen[k].append(observe([self.simulators[k]], [k]))
        return observe([self.simulators[k] for k in self._asked], self._asked)

    def step(self, actions: Int[ndarray, "batch 2"]) -> tuple[ndarray, Bool[ndarray, "batch"]]:
        """Commit executors in the episodes that go on."""
        rewards_ms = np.empty(len(self._asked))
        for row, (k, action) in enumerate(zip(self._asked, actions.tolist(), strict=True)):
            with of(_name(self.simulators[k])):
                rewards_ms[row] = self.simulators[k].step(*action)
        over = np.array([self.simulators[k].done for k in self._asked])
        self._asked = self._open()
        return rewards_ms, over

    def final(self) -> Observation:
        """What is seen of every episode when all jobs are done."""
        return observe(self.simulators, range(len(self.simulators)))

    def figures(self) -> dict[str, Any]:
        """Completion times, use of the executors, time of the last event."""
        return {
            "job_jct_s": [np.asarray(one.jct_s) for one in self.simulators],
            "utilisation": [one.utilisation for one in self.simulators],
            "makespan_s": [one.time_ms * 1e-3 for one in self.simulators],
            "decisions": [one.decisions for one in self.simulators],
            "stretches": [stretches(one) if one.logs else None for one in self.simulators],
        }

    def running(self) -> list[Simulator]:
        """The simulators, for policies that may look ahead."""
        return self.simulators

    def run(self, policy: Any) -> int | None:
        """Run a compiled rule to the end of every episode."""
        if self._records or not isinstance(policy, Heuristic):
            return None
        for simulator in self.simulators:
            with of(_name(simulator)):
                simulator.run(policy)
        return sum(one.decisions for one in self.simulators)

    def check_actions(self, given: ndarray, episodes: Sequence[Episode]) -> ndarray:
        """The choices and executors, if they are whole numbers; the simulator checks which."""
        return policy_answers.actions(given, len(episodes))

    def check_labels(self, given: ndarray, episodes: Sequence[Episode], *, soft: bool) -> ndarray:
        """The labels, if each could be followed."""
        labels = policy_answers.labels(given, len(episodes), soft=soft)
        for k, label in zip(self._asked, labels, strict=True):
            with of(f"label of {_name(self.simulators[k])}"):
                policy_answers.check(self.simulators[k], label)
                if soft and self._weighed not in (None, len(label)):
                    raise ValueError(
                        "`weighed` must give as many answers at every decision, got "
                        f"{self._weighed} and {len(label)}. Weights of 0 fill up."
                    )
        self._weighed = labels.shape[1]
        return labels

    def _open(self) -> list[int]:
        return [k for k, simulator in enumerate(self.simulators) if not simulator.done]


def _name(simulator: Simulator) -> str:
    return f"episode `{simulator.episode.id}`"


@dataclass(frozen=True, eq=False, kw_only=True)
class Rollout:
    """Episodes of one policy."""

    setting: "Setting"
    """Where they were played."""
    episodes: Sequence[Episode]
    """Their job sequences."""
    job_jct_s: list[Float[ndarray, "_"]]
    """Completion time of each job, per episode."""
    utilisation: Float[ndarray, "episode"]
    """Share of the executors' time that went to tasks."""
    makespan_s: Float[ndarray, "episode"]
    """Time of the last event."""
    decisions: Int[ndarray, "episode"]
    """Number of decisions."""
    seconds: float
    """Wall time of all episodes together."""
    stretches: list[Float[ndarray, "_ 4"]] = field(default_factory=list)
    """Of the logged episodes: executor, job, start in s, length in s of every stretch of work."""
    actions: list[Int[ndarray, "_ 2"]] = field(default_factory=list)
    """Choices and executors, per episode; empty unless recorded, like all below."""
    rewards_ms: list[Float[ndarray, "_"]] = field(default_factory=list)
    """Reward of each decision: minus the jobs' time until the next one."""
    observations: list[list[Observation]] = field(default_factory=list)
    """What the policy saw at each decision, a batch of one each."""
    final: list[Observation] = field(default_factory=list)
    """What is seen when all jobs are done."""
    labels: list[Int[ndarray, "_ 2"] | Float[ndarray, "_ answer 3"]] = field(default_factory=list)
    """What the labelling policy would have chosen there, or several answers with their weights."""

    @property
    def ids(self) -> list[str]:
        """Episode ids."""
        return [episode.id for episode in self.episodes]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the job sequences."""
        return [episode.seed for episode in self.episodes]

    @property
    def jct_s(self) -> Float[ndarray, "episode"]:
        """Mean job completion time of each episode."""
        return np.array([jobs.mean() for jobs in self.job_jct_s])

    @cached_property
    def fairness(self) -> Float[ndarray, "episode"]:
        """Jain's index of the jobs' slowdowns; every job is run alone when this is first read."""
        pairs = zip(self.job_jct_s, self.episodes, strict=True)
        return np.array([jains_index(jobs, alone_s(self.setting, one)) for jobs, one in pairs])


def rollout(
    policy: Policy,
    setting: "Setting",
    episodes: Sequence[Episode],
    *,
    seed: int = 0,
    record: bool = False,
    label: Policy | None = None,
    soft: bool = False,
    batch: int | None = None,
    log: int = 0,
) -> Rollout:
    """Episodes under `policy`, each run once to its end.

    Args:
        policy: Commits the executors; a `Heuristic` runs compiled if nothing is recorded.
        setting: The setting that the episodes belong to.
        episodes: What to run.
        seed: Of the policies.
        record: Keep observations, actions and rewards.
        label: A second policy, asked in every visited state without being followed.
        soft: Keep the label policy's `weighed(observation)`, where it has it (choice, executors and
            weight of several answers, as many at every decision), and not its answers.
        batch: Episodes run at once; all by default, one for sequential policies.
        log: Of how many of the first episodes `stretches` are kept.

    Raises:
        SessionError: The policy's answer to one episode is NaN or infinite, with the episode.
        ValueError: No episodes, a batch that does not fit, or an invalid action or label, with its
            episode.
    """
    batches = play(
        policy,
        lambda some, first: Clusters(setting, some, log=max(0, log - first), record=record),
        episodes,
        Options(seed, label=label, soft=soft, batch=batch),
    )
    return _gather(batches, setting, episodes, record)


def _gather(
    batches: Iterable[Batch], setting: "Setting", episodes: Sequence[Episode], record: bool
) -> Rollout:
    """The episodes of all batches; simulators are dropped, whose arrays are large."""
    columns: dict[str, Any] = {}
    seconds = 0.0
    for batch in batches:
        seconds += batch.seconds
        for name, values in {**_recorded(batch, record), **batch.environment.figures()}.items():
            columns.setdefault(name, []).extend(values)
    columns["stretches"] = [one for one in columns["stretches"] if one is not None]
    for name in ("utilisation", "makespan_s", "decisions"):
        columns[name] = np.array(columns[name])
    return Rollout(
        setting=setting,
        episodes=episodes,
        seconds=seconds,
        **columns,
    )


def _recorded(batch: Batch, record: bool) -> dict[str, list[Any]]:
    """What is kept of each episode's decisions."""
    labels = {"labels": batch.by_episode(batch.labels)} if batch.labels else {}
    if not record:
        return labels
    clusters = batch.environment
    assert isinstance(clusters, Clusters)
    return labels | {
        "actions": batch.by_episode(batch.actions),
        "rewards_ms": batch.by_episode(batch.rewards),
        "observations": clusters.seen,
        "final": [observe([one]) for one in clusters.simulators],
    }
