"""The worker: what waits is answered together, once, and sessions go on from what was answered."""

import threading

import numpy as np
import pytest
from netllm import registry
from netllm.serve.seat import Seat
from netllm.serve.worker import Question, QueueFull, Worker

PATIENCE_S = 60


class Diary:
    """A policy that answers with how often it saw each session, as far as it is let."""

    def __init__(self):
        self.entered, self.leave, self.free = *(threading.Semaphore(0) for _ in "el"), True
        self.seen, self.batches, self.told, self.fails = {}, [], [], False

    def reset(self, seed):
        self.seen = {}

    def open(self, episodes):
        assert not {*episodes} & self.seen.keys()
        self.seen |= dict.fromkeys(episodes, 0)

    def close(self, episodes):
        for episode in episodes:
            del self.seen[episode]

    def act(self, observation):
        self.entered.release()
        if not self.free:
            assert self.leave.acquire(timeout=PATIENCE_S)
        if self.fails:
            raise RuntimeError("out of order")
        episodes = observation["episode"].tolist()
        self.batches.append(episodes)
        for episode in episodes:
            self.seen[episode] += 1
        return np.array([self.seen[episode] % 6 for episode in episodes])

    def took(self, actions):
        self.told.append((self.batches[-1], actions.tolist()))

    def go_on(self):
        """Let the pass that waits end, and all others."""
        self.free = True
        self.leave.release()


class Five:
    def reset(self, seed):
        pass

    def act(self, observation):
        return np.full(len(observation["buffer_s"]), 5)


class Asked:
    """A question of some sessions, and its answer."""

    def __init__(self, worker, *sessions):
        self.answers, self.there = [], threading.Event()
        self.question = Question(
            "abr", sessions, [ROW] * len(sessions), [None] * len(sessions), self.answered
        )
        worker.submit(self.question)

    def answered(self, answers):
        self.answers.append(None if answers is None else answers.tolist())
        self.there.set()

    def answer(self):
        assert self.there.wait(PATIENCE_S)
        assert len(self.answers) == 1
        return self.answers[0]


TASK = registry.task("abr")
SETTING = TASK.setting("synthetic")
ROW = {
    name: np.zeros(field.shape, field.kind)
    for name, field in TASK.observation_fields(SETTING).items()
}


@pytest.fixture
def diary():
    return Diary()


@pytest.fixture
def worker(diary):
    seat = Seat(task=TASK, setting=SETTING, policy=diary, fallback=Five(), fallback_name="five")
    one = Worker({"abr": seat}, queue=4, batch=3)
    one.start()
    yield one
    diary.go_on()
    one.stop()


def hold(worker, diary, session):
    """Let the policy begin with a question and come no further."""
    while diary.entered.acquire(blocking=False):
        pass
    diary.free = False
    held = Asked(worker, session)
    assert diary.entered.acquire(timeout=PATIENCE_S)
    return held


def test_what_waits_is_answered_together_up_to_a_batch(worker, diary):
    first = hold(worker, diary, 1)
    later = [Asked(worker, session) for session in (2, 3, 4, 5)]
    diary.go_on()
    assert [one.answer() for one in (first, *later)] == [[1]] * 5
    assert diary.batches == [[1], [2, 3, 4], [5]]


def test_the_sessions_of_one_question_stay_together_however_many(worker, diary):
    held = hold(worker, diary, 1)
    small = Asked(worker, 9)
    diary.go_on()
    held.answer()
    assert small.answer() == [1]
    assert Asked(worker, 2, 3, 4, 5, 6).answer() == [1] * 5
    assert diary.batches[-1] == [2, 3, 4, 5, 6]


def test_no_more_decisions_wait_than_the_queue_holds(worker, diary):
    held = hold(worker, diary, 1)
    waiting = [Asked(worker, 2, 3), Asked(worker, 4, 5)]
    with pytest.raises(QueueFull):
        Asked(worker, 6)
    assert worker.waiting == 4
    diary.go_on()
    assert [one.answer() for one in (held, *waiting)] == [[1], [1, 1], [1, 1]]
    assert Asked(worker, 6).answer() == [1]


def test_what_is_given_up_before_its_turn_is_never_seen(worker, diary):
    held = hold(worker, diary, 1)
    late = Asked(worker, 2)
    assert worker.give_up(late.question, np.array([5]))
    assert not late.question.begun
    diary.go_on()
    held.answer()
    assert Asked(worker, 2).answer() == [1]
    assert diary.batches == [[1], [2]]
    assert not late.answers
    assert not diary.told


def test_a_policy_that_is_late_is_told_what_was_answered_instead(worker, diary):
    held = hold(worker, diary, 1)
    assert worker.give_up(held.question, np.array([5]))
    assert not worker.give_up(held.question, np.array([4]))
    diary.go_on()
    assert Asked(worker, 1).answer() == [2]
    assert diary.told == [([1], [5])]
    assert not held.answers


def test_an_answer_that_is_there_is_not_given_up(worker, diary):
    asked = Asked(worker, 1)
    assert asked.answer() == [1]
    assert not worker.give_up(asked.question, np.array([5]))
    assert not diary.told


def test_only_the_late_ones_of_a_batch_are_answered_otherwise(worker, diary):
    held = hold(worker, diary, 1)
    late, patient = Asked(worker, 2), Asked(worker, 3)
    diary.leave.release()
    assert held.answer() == [1]
    assert diary.entered.acquire(timeout=PATIENCE_S)  # both are in the pass that waits now
    assert worker.give_up(late.question, np.array([5]))
    diary.go_on()
    assert patient.answer() == [1]
    assert Asked(worker, 2).answer() == [2]
    assert diary.told == [([2, 3], [5, 1])]
    assert not late.answers


def test_sessions_that_are_closed_are_forgotten_and_begin_anew(worker, diary):
    assert Asked(worker, 1).answer() == [1]
    assert Asked(worker, 1).answer() == [2]
    worker.close("abr", [1, 77])
    assert Asked(worker, 2).answer() == [1]
    assert diary.seen == {2: 1}
    assert Asked(worker, 1).answer() == [1]


def test_a_policy_that_fails_ends_nothing_but_the_sessions_it_was_asked_about(
    worker, diary, caplog
):
    assert Asked(worker, 1).answer() == [1]
    assert Asked(worker, 2).answer() == [1]
    diary.fails = True
    assert Asked(worker, 2).answer() is None
    assert "abr: 1 decisions failed" in caplog.text
    diary.fails = False
    assert Asked(worker, 2).answer() == [1]
    assert Asked(worker, 1).answer() == [2]
    assert worker.alive


def test_what_waits_is_still_answered_when_the_worker_ends(worker, diary):
    held, waiting = hold(worker, diary, 1), Asked(worker, 2)
    end = threading.Thread(target=worker.stop)
    end.start()
    diary.go_on()
    end.join(PATIENCE_S)
    assert (held.answer(), waiting.answer()) == ([1], [1])
    assert not worker.alive


def test_a_policy_whose_episodes_cannot_come_and_go_is_refused():
    with pytest.raises(ValueError, match="must have `open` and `close` to be served"):
        Seat(task=TASK, setting=SETTING, policy=Five(), fallback=Five(), fallback_name="five")
