"""Policies whose episodes cannot come and go: each session has one of its own."""

import numpy as np
import pytest
from netllm.serve.one_each import OneEach


class Counts:
    """Answers how often it was asked since its reset, times ten, plus what it sees."""

    def reset(self, seed):
        self.asked = 0

    def act(self, observation):
        (seen,) = observation["level"]
        self.asked += 1
        return np.array([10 * self.asked + seen])


@pytest.fixture
def policy():
    policy = OneEach(Counts)
    policy.reset(0)
    return policy


def seen(**levels):
    """What sessions, by their numbers, see."""
    numbers = [int(name.removeprefix("s")) for name in levels]
    return {"episode": np.array(numbers), "level": np.array([*levels.values()])}


def test_each_session_goes_on_from_its_own_decisions(policy):
    policy.open([3, 5])
    assert policy.act(seen(s3=1, s5=2)).tolist() == [11, 12]
    assert policy.act(seen(s5=4)).tolist() == [24]
    assert policy.act(seen(s5=0, s3=0)).tolist() == [30, 20]


def test_a_session_that_is_opened_again_begins_anew(policy):
    policy.open([3, 5])
    policy.act(seen(s3=0, s5=0))
    policy.close([3])
    policy.open([3])
    assert policy.act(seen(s3=0, s5=0)).tolist() == [10, 20]


def test_a_reset_forgets_all_sessions(policy):
    policy.open([3])
    policy.reset(0)
    with pytest.raises(KeyError):
        policy.act(seen(s3=0))
