import numpy as np
import pytest
from netllm_sims.abr import Policy, Simulator, rollout, setting


class Recorder:
    """Notes what it is told, and chooses random levels by its seed."""

    def __init__(self, sequential=False):
        self.sequential, self.calls = sequential, []

    def reset(self, seed):
        self.calls.append(("reset", seed))
        self.rng = np.random.default_rng(seed)

    def begin(self, simulator):
        assert isinstance(simulator, Simulator)
        self.calls.append(("begin", [one.id for one in simulator.sessions], simulator.chunk))

    def act(self, observation):
        return self.rng.integers(3, size=len(observation["buffer_s"]))


def test_a_rollout_holds_every_decision_and_its_parts(small, play, constant):
    sessions = small.sessions("test", episodes=4)
    done = rollout(constant(1), small, sessions)
    assert done.ids == [one.id for one in sessions]
    assert done.rewards.shape == done.actions.shape == (4, 19)
    assert (done.actions == 1).all()
    np.testing.assert_array_equal(done.rewards, play(small, sessions, [1] * 19)["reward"][:, 1:])
    parts = done.bitrate_mbps, done.rebuffer_s, done.smoothness_mbps
    np.testing.assert_allclose(small.qoe(*parts), done.rewards, atol=1e-12)
    np.testing.assert_allclose(done.qoe, done.rewards.mean(1))
    assert done.seconds > 0
    assert done.observations == {}
    assert done.labels is None


def test_a_recorded_step_is_what_was_seen_before_its_action(small, play, constant):
    sessions = small.sessions("test", episodes=2)
    done = rollout(constant(2), small, sessions, record=True, dtype=np.float32)
    seen = play(small, sessions, [2] * 19, np.float32)
    assert set(done.observations) == set(seen)
    for name, values in done.observations.items():
        assert values.shape[:2] == (2, 19)
        np.testing.assert_array_equal(values, seen[name][:, :-1])


def test_labels_come_from_the_states_that_the_policy_visits(constant, buffer_based):
    config = setting("synthetic")
    sessions = config.sessions("test", episodes=3)
    done = rollout(constant(0), config, sessions, record=True, label=buffer_based)
    assert done.labels.any()
    visited = {"buffer_s": done.observations["buffer_s"].ravel()}
    np.testing.assert_array_equal(done.labels.ravel(), buffer_based.act(visited))
    assert (done.actions == 0).all()


class Meddler:
    """Rebinds what it sees, for good if it could, and chooses level 0."""

    def reset(self, seed):
        pass

    def act(self, observation):
        observation["buffer_s"] = observation["buffer_s"] + 100
        return np.zeros(len(observation["buffer_s"]), int)


class Mindful:
    """Chooses level 0, and remembers what was done."""

    def reset(self, seed):
        self.done = []

    def act(self, observation):
        return np.zeros(len(observation["buffer_s"]), int)

    def took(self, actions):
        self.done.append(np.array(actions))


def test_a_policy_that_remembers_its_actions_is_told_the_random_ones(small):
    sessions, policy = small.sessions("test", episodes=4), Mindful()
    done = rollout(policy, small, sessions, epsilon=0.3)
    assert (done.actions > 0).any()
    np.testing.assert_array_equal(np.stack(policy.done, axis=1), done.actions)


def test_a_policy_cannot_change_what_is_seen_and_scored(constant, buffer_based):
    config = setting("synthetic")
    sessions = config.sessions("test", episodes=3)
    honest = rollout(constant(0), config, sessions, record=True, label=buffer_based)
    done = rollout(Meddler(), config, sessions, record=True, label=buffer_based)
    np.testing.assert_array_equal(done.rewards, honest.rewards)
    np.testing.assert_array_equal(done.labels, honest.labels)
    for name, values in honest.observations.items():
        np.testing.assert_array_equal(done.observations[name], values)


def test_epsilon_is_the_share_of_random_actions(small, constant):
    sessions = small.sessions("train", episodes=300)
    done = rollout(constant(0), small, sessions, epsilon=0.3, seed=5)
    # two of three random levels differ from 0
    assert (done.actions != 0).mean() == pytest.approx(0.2, abs=0.02)
    again = rollout(constant(0), small, sessions, epsilon=0.3, seed=5)
    other = rollout(constant(0), small, sessions, epsilon=0.3, seed=6)
    np.testing.assert_array_equal(done.actions, again.actions)
    assert (done.actions != other.actions).any()


def test_batches_start_with_seeds_of_their_own(small):
    sessions = small.sessions("test", episodes=5)
    policy = Recorder()
    rollout(policy, small, sessions, seed=3, batch=2)
    resets = [call[1] for call in policy.calls if call[0] == "reset"]
    assert resets[0] == 3
    assert len(set(resets)) == 3
    assert [call[1] for call in policy.calls if call[0] == "begin"] == [
        ["test-000", "test-001"],
        ["test-002", "test-003"],
        ["test-004"],
    ]


def test_a_deterministic_policy_earns_the_same_in_any_batch(small, constant):
    sessions = small.sessions("test", episodes=5)
    noisy = setting("synthetic", video=small.video, delay_noise=0.1)
    whole = rollout(constant(2), noisy, sessions).rewards
    np.testing.assert_array_equal(whole, rollout(constant(2), noisy, sessions, batch=2).rewards)


def test_a_sequential_policy_plays_alone_with_one_reset(small):
    policy = Recorder(sequential=True)
    rollout(policy, small, small.sessions("test", episodes=3), seed=9)
    begins = [("begin", [f"test-00{k}"], 1) for k in range(3)]
    assert policy.calls == [("reset", 9), *begins]


def test_a_label_beside_a_sequential_policy_starts_every_session_anew(small):
    label = Recorder()
    rollout(Recorder(sequential=True), small, small.sessions("test", episodes=3), label=label)
    assert [call[0] for call in label.calls] == ["reset", "begin"] * 3


def test_any_object_with_reset_and_act_is_a_policy(constant):
    assert isinstance(constant(0), Policy)
    assert not isinstance(object(), Policy)


class Answers:
    """Gives one and the same answer for ever, whatever it is."""

    def __init__(self, answer):
        self.answer = answer

    def reset(self, seed):
        pass

    def act(self, observation):
        return self.answer


class Odds(Answers):
    """The same, as probabilities."""

    def probabilities(self, observation):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.array([1, 9]), r"a number between 0 and 2, got 9 for episode `test-001`"),
        (np.array([-1, 0]), r"a number between 0 and 2, got -1 for episode `test-000`"),
        (np.array([1.0, 2.0]), r"one integer per episode, shape \(2,\), got float64"),
        (np.array([True, False]), "one integer per episode, .*got bool"),
        (np.array([[1], [1]]), r"one integer per episode, .*of shape \(2, 1\)"),
        (np.array([1]), r"one integer per episode, .*of shape \(1,\)"),
        (1, r"one integer per episode, .*of shape \(\)"),
        (None, r"one integer per episode, .*got object of shape \(\)"),
    ],
)
def test_a_label_must_be_a_level_of_every_session(small, constant, answer, message):
    sessions = small.sessions("test", episodes=2)
    for soft in (False, True):  # without probabilities it answers with levels
        with pytest.raises(ValueError, match=f"The label policy must answer with {message}"):
            rollout(constant(0), small, sessions, label=Answers(answer), soft=soft)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([[0.5, 0.5], [0.5, 0.5]], r"one probability per .*shape \(2, 3\), got .*\(2, 2\)"),
        ([0.2, 0.3, 0.5], "one probability per episode and answer"),
        ([[0, 0, 1], [0, 1, 0]], "one probability per episode and answer, .*got int64"),
        ([[0.2, 0.3, 0.5], [42, 0, 0.0]], "sum to 1, got .*42.* for episode `test-001`"),
        ([[0.2, 0.3, 0.498], [0, 0, 1.0]], "sum to 1, got .*0.498"),
        ([[1.5, -0.5, 0], [0, 0, 1]], ">= 0 that sum to 1, got .*-0.5"),
        ([[np.nan, 0.5, 0.5], [0, 0, 1]], "sum to 1, got .*nan"),
        ([[np.inf, -np.inf, 1], [0, 0, 1]], "sum to 1, got .*inf"),
    ],
)
def test_soft_labels_must_be_probabilities_of_every_level(small, constant, answer, message):
    sessions = small.sessions("test", episodes=2)
    with pytest.raises(ValueError, match=f"The label policy must answer with .*{message}"):
        rollout(constant(0), small, sessions, label=Odds(answer), soft=True)


def test_soft_labels_may_miss_one_by_rounding(small, constant):
    sessions = small.sessions("test", episodes=2)
    third = Odds(np.full((2, 3), 1 / 3, np.float16))
    assert rollout(constant(0), small, sessions, label=third, soft=True).labels.shape == (2, 19, 3)


def test_bad_arguments_are_refused(small, constant):
    sessions = small.sessions("test", episodes=2)
    with pytest.raises(ValueError, match="`epsilon` must lie in"):
        rollout(constant(0), small, sessions, epsilon=1.5)
    with pytest.raises(ValueError, match="at least one episode"):
        rollout(constant(0), small, [])
    with pytest.raises(ValueError, match="`batch` must be >= 1"):
        rollout(constant(0), small, sessions, batch=0)
    with pytest.raises(ValueError, match="1 for a sequential policy"):
        rollout(Recorder(sequential=True), small, sessions, batch=2)


def test_a_policy_that_answers_one_session_with_nan_names_it(small):
    from netllm_sims.session_error import SessionError

    sessions = small.sessions("test", episodes=3)

    class Broken:
        def reset(self, seed):
            pass

        def act(self, observation):
            return np.array([0.0, np.nan, 1.0])

    with pytest.raises(SessionError, match="finite `action`, got nan") as error:
        rollout(Broken(), small, sessions)
    assert (error.value.session, error.value.field) == (sessions[1].id, "action")
