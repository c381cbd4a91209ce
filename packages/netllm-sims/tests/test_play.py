"""The one loop that plays episodes, on an environment made for it."""

from dataclasses import dataclass

import numpy as np
import pytest
from netllm_sims.rollout import Environment, Options, play


@dataclass(frozen=True)
class Countdown:
    id: str
    steps: int


class Countdowns(Environment):
    """Episodes of their own lengths, which show the steps left and earn 10 times as much."""

    answers = 100

    def __init__(self, episodes):
        self.left = np.array([one.steps for one in episodes])
        self.lengths = self.left.copy()

    def observation(self):
        return {"left": self.left[self.left > 0]}

    def step(self, actions):
        going = self.left[self.left > 0]
        assert len(actions) == len(going)
        self.left[self.left > 0] -= 1
        return 10.0 * going, going == 1

    def final(self):
        return {"left": self.left}

    def figures(self):
        return {"length": self.lengths}


class Zero:
    """Always answers 0, and keeps what it was shown."""

    def reset(self, seed):
        self.seen = []

    def act(self, observation):
        self.seen.append(observation)
        return np.zeros(len(observation["left"]), int)


def played(lengths, **options):
    episodes = [Countdown(str(k), steps) for k, steps in enumerate(lengths)]
    return list(play(Zero(), lambda some, first: Countdowns(some), episodes, Options(**options)))


def test_episodes_that_end_apart_keep_their_own_decisions():
    (batch,) = played([2, 5, 1, 3], record=True)
    assert [len(one) for one in batch.asked] == [4, 3, 2, 1, 1]
    assert batch.decisions == 11
    left = batch.by_episode([one["left"] for one in batch.observations])
    rewards = batch.by_episode(batch.rewards)
    for k, steps in enumerate([2, 5, 1, 3]):
        countdown = np.arange(steps, 0, -1)
        np.testing.assert_array_equal(left[k], countdown)
        np.testing.assert_array_equal(rewards[k], 10 * countdown)


def test_episodes_that_end_apart_are_shown_what_they_earned_themselves():
    (batch,) = played([2, 5, 1, 3], record=True)
    shown = batch.by_episode([one["reward"] for one in batch.observations])
    earned = batch.by_episode(batch.rewards)
    for own, before in zip(shown, earned, strict=True):
        np.testing.assert_array_equal(own, [0, *before[:-1]])


def test_batches_of_episodes_play_what_all_at_once_play():
    (whole,) = played([2, 5, 1, 3, 4], record=True)
    parts = played([2, 5, 1, 3, 4], record=True, batch=2)
    assert [len(one.episodes) for one in parts] == [2, 2, 1]
    apart = [one for part in parts for one in part.by_episode(part.rewards)]
    for one, other in zip(apart, whole.by_episode(whole.rewards), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_strays_come_at_the_stated_rate_in_long_and_short_episodes(epsilon):
    (batch,) = played([1] * 2_000 + [100] * 100, epsilon=epsilon, seed=3)
    actions = batch.by_episode(batch.actions)
    for some in (actions[:2_000], actions[2_000:]):
        strays = np.concatenate(some) != 0
        rate = 0.99 * epsilon  # one random answer in a hundred is the policy's own
        deviation = (rate * (1 - rate) / len(strays)) ** 0.5
        assert strays.mean() == pytest.approx(rate, abs=5 * deviation)


def test_strays_follow_the_seed_and_differ_between_batches():
    once, again, other = (
        np.concatenate(played([50] * 4, epsilon=0.5, seed=seed)[0].actions) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()
    first, second = played([50, 50], epsilon=0.5, seed=1, batch=1)
    assert (np.concatenate(first.actions) != np.concatenate(second.actions)).any()


def test_without_strays_every_action_is_the_policys():
    (batch,) = played([3, 1, 4])
    assert not np.concatenate(batch.actions).any()
