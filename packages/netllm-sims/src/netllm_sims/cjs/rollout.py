"""Policies, and how long jobs take under them: whole episodes of one policy."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.cjs import policy_answers
from netllm_sims.cjs.dag import of
from netllm_sims.cjs.episodes import Episode
from netllm_sims.cjs.gantt import stretches
from netllm_sims.cjs.heuristics import Heuristic
from netllm_sims.cjs.observation import Observation, observe
from netllm_sims.cjs.simulator import Simulator
from netllm_sims.rollout_batches import batch_size, begin_batch
from netllm_sims.session_error import check_answers

if TYPE_CHECKING:
    from netllm_sims.cjs.settings import Setting


@runtime_checkable
class Policy(Protocol):
    """Anything that commits executors to stages, for a batch of episodes at once.

    Episodes end at different decisions: `observation["episode"]` says which of them are asked
    about, by their number among the episodes of this batch.

    Two optional attributes: `sequential = True` asks to be rolled out alone, episode by episode in
    order, with one reset; `begin(simulators)` is called after `reset` with the running simulators
    of the batch, for policies that may look ahead.
    """

    def reset(self, seed: int) -> None:
        """Forget everything and begin new episodes; random choices follow `seed`."""

    def act(self, observation: Mapping[str, ndarray]) -> Int[ndarray, "batch 2"]:
        """Per episode: number of the stage among the schedulable ones (-1 none), and executors.

        The observation is that of `cjs.observe`.
        """
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Rollout:
    """Episodes of one policy."""

    ids: list[str]
    """Episode ids."""
    seeds: list[int]
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
    def jct_s(self) -> Float[ndarray, "episode"]:
        """Mean job completion time of each episode."""
        return np.array([jobs.mean() for jobs in self.job_jct_s])


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
    if not episodes:
        raise ValueError("`episodes` must hold at least one episode, got none.")
    policies = [p for p in (policy, label) if p is not None]
    size = batch_size(policies, batch, len(episodes))
    tracks: list[_Track] = []
    start = time.perf_counter()
    for number, first in enumerate(range(0, len(episodes), size)):
        some = [
            _Track(Simulator(setting, episode, log=first + k < log))
            for k, episode in enumerate(episodes[first : first + size])
        ]
        begin_batch(policies, [track.simulator for track in some], seed=seed, number=number)
        if isinstance(policy, Heuristic) and label is None and not record:
            for track in some:
                with of(track.name):
                    track.simulator.run(policy)
        else:
            _play(some, policy, label, soft, record)
        tracks += [track.closed(record) for track in some]
    return _gather(tracks, episodes, time.perf_counter() - start, record, label is not None)


class _Track:
    """One running episode and what is kept of it."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.name = f"episode `{simulator.episode.id}`"
        self.actions: list[ndarray] = []
        self.rewards: list[float] = []
        self.observations: list[Observation] = []
        self.final: list[Observation] = []
        self.labels: list[ndarray] = []
        self.facts: dict[str, ndarray | float] = {}

    def learn(self, label: ndarray) -> None:
        """Keep what the labelling policy answered, if it could be followed."""
        with of(f"label of {self.name}"):
            policy_answers.check(self.simulator, label)
            if self.labels and len(self.labels[0]) != len(label):
                raise ValueError(
                    "`weighed` must give as many answers at every decision, got "
                    f"{len(self.labels[0])} and {len(label)}. Weights of 0 fill up."
                )
        self.labels.append(label)

    def closed(self, record: bool) -> "_Track":
        """The track without its simulator, whose arrays are large."""
        simulator = self.simulator
        if record:
            self.final.append(simulator.observe())
        self.facts = {
            "jct": simulator.jct_s,
            "utilisation": simulator.utilisation,
            "makespan": simulator.time_ms * 1e-3,
            "decisions": simulator.decisions,
        }
        if simulator.logs:
            self.facts["stretches"] = stretches(simulator)
        del self.simulator
        return self


def _play(
    tracks: list[_Track], policy: Policy, label: Policy | None, soft: bool, record: bool
) -> None:
    running = [k for k, track in enumerate(tracks) if not track.simulator.done]
    while running:
        observation = observe([tracks[k].simulator for k in running], running)
        answer = np.asarray(policy.act(observation))
        check_answers(answer, [tracks[k].simulator.episode.id for k in running], "action")
        actions = policy_answers.actions(answer, len(running))
        answers = None
        if label is not None:
            answers = policy_answers.labels(label, observation, len(running), soft=soft)
        for row, k in enumerate(running):
            track = tracks[k]
            if record:
                track.observations.append(observe([track.simulator], [k]))
                track.actions.append(actions[row])
            if answers is not None:
                track.learn(answers[row])
            with of(track.name):
                reward_ms = track.simulator.step(*actions[row].tolist())
            if record:
                track.rewards.append(reward_ms)
        running = [k for k in running if not tracks[k].simulator.done]


def _gather(
    tracks: list[_Track], episodes: Sequence[Episode], seconds: float, record: bool, labelled: bool
) -> Rollout:
    return Rollout(
        ids=[episode.id for episode in episodes],
        seeds=[episode.seed for episode in episodes],
        job_jct_s=[np.asarray(track.facts["jct"]) for track in tracks],
        utilisation=np.array([track.facts["utilisation"] for track in tracks]),
        makespan_s=np.array([track.facts["makespan"] for track in tracks]),
        decisions=np.array([track.facts["decisions"] for track in tracks], np.int64),
        seconds=seconds,
        stretches=[
            np.asarray(track.facts["stretches"]) for track in tracks if "stretches" in track.facts
        ],
        actions=[np.array(track.actions) for track in tracks] if record else [],
        rewards_ms=[np.array(track.rewards) for track in tracks] if record else [],
        observations=[track.observations for track in tracks] if record else [],
        final=[one for track in tracks for one in track.final],
        labels=[np.array(track.labels) for track in tracks] if labelled else [],
    )
