"""An adapted model as a policy that does not let a cluster wait for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from netllm.cjs.environment import Advice, Running
from netllm.cjs.observation import COLUMN, seen
from netllm.cjs.state import State
from netllm.task import state_of

if TYPE_CHECKING:
    from netllm_adapt import AdaptedModel
    from netllm_sims.cjs import Setting


class Scheduler:
    """An adapted model as a policy of `netllm_sims.cjs`.

    The return is minus the mean JCT in s, whatever the number of jobs, so that one target serves
    every setting. The simulator's observation tells what has been spent of it.

    The advice is followed in two cases in which a wrong answer could stop a cluster. With more
    jobs present than there ever were in its pool, the model has nothing to go by. And it may let
    executors wait only in a job that will surely ask about them again, since every stage of it that
    is about to end unlocks another: elsewhere nobody may ask before the job ends, and half a
    cluster is lost until then. `validity` is the share of answers that were the model's.

    A third case is left to the model: of the last stage that may be chosen it can name fewer
    executors than there are, and the others then stay idle in their job. One model that was trained
    for 200 steps lost a cluster so, in 1 of 20 sequences of `default`.
    """

    def __init__(self, model: AdaptedModel, setting: Setting) -> None:
        from netllm_adapt import Policy

        self._policy = Policy(model)
        self._most_jobs = state_of(model, State).most_jobs or np.inf
        self._num_jobs = setting.num_jobs
        self._advice = Advice(setting)
        self._spent_ms: dict[int, float] = {}
        self._come_and_go = False
        self._answers = self._replaced = 0

    @property
    def validity(self) -> float | None:
        """The share of answers since the last reset in whose place no advice was followed."""
        return 1 - self._replaced / self._answers if self._answers else None

    def reset(self, seed: int) -> None:
        """Begin new episodes."""
        self._policy.reset(seed)
        self._spent_ms, self._come_and_go = {}, False
        self._answers = self._replaced = 0

    def open(self, episodes: Sequence[int]) -> None:
        """Begin these episodes beside those that are open; see `netllm_adapt.Policy`."""
        self._policy.open(episodes)
        self._come_and_go = True

    def close(self, episodes: Sequence[int]) -> None:
        """Forget these episodes, which were opened."""
        self._policy.close(episodes)
        for episode in episodes:
            self._spent_ms.pop(episode, None)

    def begin(self, simulators: Running) -> None:
        """Take the simulators whose episodes it will be asked about, or what is seen of them."""
        self._advice.begin(simulators)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Choice among the schedulable stages (-1 none) and executors, per episode."""
        episodes = observation["episode"].tolist()
        spent_ms = dict(zip(episodes, observation["job_ms"].tolist(), strict=True))
        before = spent_ms | self._spent_ms
        reward_s = [(before[k] - spent_ms[k]) * 1e-3 / self._num_jobs for k in episodes]
        self._spent_ms = (self._spent_ms if self._come_and_go else {}) | spent_ms
        advice = self._advice(observation)
        fields = seen(observation, advice) | {"reward": np.array(reward_s, np.float32)}
        answer = self._policy.act(fields | {"episode": observation["episode"]})
        advised = np.diff(observation["job_ptr"]) > self._most_jobs
        advised |= (answer[:, 0] < 0) & ~_asked_again(observation)
        self._answers += len(answer)
        self._replaced += int(advised.sum())
        if advised.any():
            answer = np.where(advised[:, None], advice, answer)
            self._policy.took(answer)
        return answer

    def took(self, actions: np.ndarray) -> None:
        """Remember these as the last actions: something else was done than answered."""
        self._policy.took(actions)


def _asked_again(observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether the job that has the free executors will soon ask about them again.

    It does when a stage ends and thereby unlocks another, about all of its executors that wait by
    then. Some of those that are free here may still be at work, in a stage of the job that has no
    task left to start: which one is not seen. So all such stages must unlock another.
    """
    parent, child = observation["edges"].T
    stages, jobs = observation["stages"], len(observation["jobs"])
    ending = (stages[:, COLUMN["running"]] > 0) & (stages[:, COLUMN["unstarted"]] == 0)
    alone = np.bincount(child, minlength=len(stages)) == 1
    unlocks = np.zeros(len(stages), bool)
    unlocks[parent[alone[child]]] = True
    some, sure = (
        np.bincount(observation["stage_job"][which], minlength=jobs)
        for which in (ending, ending & unlocks)
    )
    source = observation["source_job"]
    return (source >= 0) & (some[source] > 0) & (sure[source] == some[source])
