"""A server's sessions are answered by a student, and by the model where that is unsure."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from netllm import registry
from netllm.abr.student_training import Training
from netllm.deciders.when_unsure import WhenUnsure
from netllm.serve.schema import split
from netllm_sims.abr.rollout import rollout

STEPS = 16


@pytest.fixture(scope="module")
def played(varied):
    """What four players see, step by step."""
    task, setting, _ = varied("abr")
    sessions = task.episodes(setting, "test", count=4)
    return rollout(registry.policy("abr", "random", setting), setting, sessions, record=True)


def at(done, step, rows=slice(None)):
    """The observation of some of the players at a step."""
    return {name: value[rows, step] for name, value in done.observations.items()}


@pytest.fixture(scope="module")
def student(varied, played, tmp_path_factory):
    """A student of chance, and the threshold below which half of its decisions are."""
    _, setting, _ = varied("abr")
    file = tmp_path_factory.mktemp("student") / "student.npz"
    training, wanted = Training(setting, seed=1), np.random.default_rng(2).random((4, 6)) ** 4
    training.learn(at(played, 5), wanted / wanted.sum(1, keepdims=True))
    training.save(file, {"kind": "student", "task": "abr"})
    odds = registry.policy("abr", f"student:{file}", setting)
    highest = [odds.probabilities(at(played, step)).max(1) for step in range(STEPS)]
    return odds, float(np.median(highest))


@pytest.fixture
def asking(varied, student):
    """Make the model behind its student."""
    task, setting, model = varied("abr")
    odds, below = student

    def run():
        return WhenUnsure(odds, task.policy(model, setting), below=below)

    return run


def alone(policy, done, row):
    """One player's answers, and how many are the model's."""
    answers = [int(policy.act(at(done, step, [row]))[0]) for step in range(STEPS)]
    return answers, policy.reached


def test_sessions_that_come_and_go_are_answered_as_alone(asking, played):
    wanted, reached = zip(*(alone(asking(), played, row) for row in range(4)), strict=True)
    assert 0 < sum(reached) < 4 * STEPS
    policy, order = asking(), np.random.default_rng(0)
    policy.open([10, 11, 12, 13])
    given, steps = [[] for _ in range(4)], [0] * 4
    while left := [row for row in range(4) if steps[row] < STEPS]:
        rows = [row for row in left if order.random() < 0.6] or left[:1]
        some = [at(played, steps[row], [row]) for row in rows]
        seen = {name: np.concatenate([one[name] for one in some]) for name in some[0]}
        answers = policy.act(seen | {"episode": np.array(rows) + 10})
        for row, answer in zip(rows, answers.tolist(), strict=True):
            given[row].append(answer)
            steps[row] += 1
            if steps[row] == STEPS:
                policy.close([10 + row])
    assert given == [*wanted]
    assert policy.reached == sum(reached)
    policy.open([20])
    with pytest.raises(ValueError, match=r"must number open episodes, got \[10\]"):
        policy.act(at(played, 0, [0]) | {"episode": np.array([10])})


def test_the_model_answers_as_if_it_had_heard_of_every_step(varied, asking, student, played):
    task, setting, model = varied("abr")
    odds, below = student
    policy, always, instead = asking(), task.policy(model, setting), np.random.default_rng(1)
    for step in range(STEPS):
        seen = at(played, step)
        answers, heard = policy.act(seen), always.act(seen)
        unsure = odds.probabilities(seen).max(1) < below
        np.testing.assert_array_equal(answers, np.where(unsure, heard, odds.act(seen)))
        done = np.where(instead.random(4) < 0.3, instead.integers(6, size=4), answers)
        policy.took(done)
        always.took(done)
    assert 0 < policy.asked < 1


def test_players_of_a_server_are_answered_as_in_process(
    varied, seat, served, asking, student, played
):
    task, setting, _ = varied("abr")
    odds, below = student
    client, _ = served(seat(wrap=lambda model: WhenUnsure(odds, model, below=below)))
    opened = client.post("/v1/abr/sessions", json={"count": 4}).json()["sessions"]

    def play(row):
        answers = []
        for step in range(STEPS):
            (seen,) = split(task.observation_fields(setting), at(played, step, [row]))
            question = {"session": opened[row], "observation": seen}
            body = {"decisions": [question], "deadline_ms": 60_000}
            (answer,) = client.post("/v1/abr/decisions", json=body).json()["decisions"]
            assert answer["by"] == "model"
            answers.append(answer["answer"])
        return answers

    with ThreadPoolExecutor(4) as pool:
        given = [*pool.map(play, range(4))]
    assert given == [alone(asking(), played, row)[0] for row in range(4)]
