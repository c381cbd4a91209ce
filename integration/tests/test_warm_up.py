"""No policy pays for what its first question costs, and none is changed by not paying."""

import sys
from dataclasses import replace

import netllm
import numpy as np
import pytest
from netllm import abr, registry
from netllm.verbs import pieces
from netllm_sims.cjs import Replay

NAMES = ["own_policies:compiled_low", "own_policies:compiled_high"]


@pytest.fixture(autouse=True)
def _new_process(monkeypatch):
    monkeypatch.setattr(pieces, "_warm", set())


def built():
    """What was built of the policies that compile, in order; as in a new process afterwards."""
    own = sys.modules["own_policies"]
    some = list(own.BUILT)
    own.BUILT.clear()
    own.READY.clear()
    return some


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1]], ids=["low first", "high first"])
def test_whoever_comes_first_compiles_before_it_is_measured(names):
    report = netllm.test("abr", policy=names, setting="synthetic", episodes=3)
    asked = [policy for policy in built() if policy.asked]
    assert [policy.compiled for policy in asked] == [1, 0, 1, 0]
    assert [result.label for result in report.results] == names


def test_only_the_first_piece_of_work_is_preceded_by_a_throw_away_episode(monkeypatch):
    monkeypatch.setattr(abr.ABR, "chunk", 2)
    netllm.test("abr", policy=NAMES[:1], setting="synthetic", episodes=6)
    asked = [policy.asked for policy in built() if policy.asked]
    assert len(asked) == 1 + 3
    assert len(set(asked)) == 1  # so many chunks as one batch has


def test_what_a_policy_carries_and_draws_is_as_without_the_throw_away_episode():
    def qoe(*names):
        report = netllm.test("abr", policy=names, setting="synthetic", episodes=4)
        return {one.label: [row["qoe"] for row in one.episodes] for one in report.results}

    names = ["own_policies:counting", "own_policies:carrying", "own_policies:dice"]
    cold = qoe(*names)
    assert qoe(*names[::-1]) == cold  # warm by now: no throw-away episodes
    from netllm_sims.abr import rollout, setting

    place = setting("synthetic")
    counting = sys.modules["own_policies"].Counting()
    alone = rollout(counting, place, place.sessions("test")[:4], seed=100_003)
    assert cold[names[0]] == pytest.approx(np.asarray(alone.qoe).tolist())


def test_a_policy_warms_up_on_the_first_jobs_of_a_sequence(monkeypatch):
    task, lengths = registry.task("cjs"), []
    setting = task.setting("default")
    episode = task.episodes(setting, "test", count=1)[0]
    first = task.beginning(episode)
    assert first.jobs.jobs == episode.jobs.jobs[: len(first.jobs)]
    assert len(first.jobs) < len(episode.jobs)
    as_recorded = Replay(np.full(int(episode.jobs.tasks.sum()), 1000.0))
    recorded = replace(episode, durations=as_recorded)
    assert task.beginning(recorded) is recorded

    class Counting(type(task)):
        def rollout(self, policy, setting, episodes, *, seed):
            lengths.append([len(one.jobs) for one in episodes])
            return super().rollout(policy, setting, episodes, seed=seed)

    monkeypatch.setattr(registry, "task", lambda name: Counting())
    report = netllm.test("cjs", policy=["fifo"], episodes=2)
    assert lengths == [[len(first.jobs)], [len(episode.jobs)] * 2]
    assert report.results[0].decisions_per_s > 0
