import pickle

import gymnasium
import netllm_sims  # noqa: F401  makes the environment known to gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from netllm_sims import cjs
from netllm_sims.session_error import SessionError

STAGE = {name: column for column, name in enumerate(cjs.STAGE_COLUMNS)}
JOB = {name: column for column, name in enumerate(cjs.JOB_COLUMNS)}


@pytest.fixture(scope="module")
def setting():
    return cjs.setting("synthetic", num_jobs=15, num_executors=12)


class Fair:
    """The reference's Fair from the observation alone, in plain Python."""

    def reset(self, seed):
        pass

    def act(self, observation):
        return np.array([self.one(observation, b) for b in range(len(observation["episode"]))])

    def one(self, seen, b):
        jobs = range(seen["job_ptr"][b], seen["job_ptr"][b + 1])
        rows = range(seen["stage_ptr"][b], seen["stage_ptr"][b + 1])
        listed = [row for row in rows if seen["schedulable"][row]]
        cap = -(-seen["executors"][b] // max(1, len(jobs)))
        free, source = seen["committable"][b], seen["source_job"][b]

        def find(job):
            mine = [row for row in listed if seen["stage_job"][row] == job]
            frontier = [row for row in mine if seen["frontier"][row]]
            return (frontier or mine or [None])[0]

        if source >= 0 and find(source) is not None:
            return listed.index(find(source)), free
        for job in jobs:
            supply = int(seen["jobs"][job, JOB["supply"]])
            if job != source and supply < cap and find(job) is not None:
                return listed.index(find(job)), min(free, cap - supply)
        return -1, free


def test_fair_from_the_observation_is_the_compiled_fair(setting):
    episodes = setting.episodes("test", episodes=3)
    plain = cjs.rollout(Fair(), setting, episodes, record=True, label=cjs.fair())
    compiled = cjs.rollout(cjs.fair(), setting, episodes)
    for got, wanted in zip(plain.job_jct_s, compiled.job_jct_s, strict=True):
        np.testing.assert_array_equal(got, wanted)
    for actions, labels, rewards, jct in zip(
        plain.actions, plain.labels, plain.rewards_ms, plain.job_jct_s, strict=True
    ):
        np.testing.assert_array_equal(actions, labels)
        np.testing.assert_allclose(-rewards.sum(), jct.sum() * 1e3)
    assert plain.seeds == [666, 667, 668]
    assert (plain.decisions == [len(actions) for actions in plain.actions]).all()
    np.testing.assert_allclose(plain.utilisation, compiled.utilisation)
    assert (plain.jct_s == [jct.mean() for jct in plain.job_jct_s]).all()


class Weighing(Fair):
    """Fair, or with a quarter of the weight one executor less."""

    def weighed(self, observation):
        answer = self.act(observation)
        less = np.maximum(answer - [0, 1], [-1, 1])
        answers = np.stack([answer, less], 1)
        weights = np.broadcast_to(np.array([[0.75], [0.25]]), (len(answer), 2, 1))
        return np.concatenate([answers, weights], -1).astype(np.float32)


@pytest.mark.parametrize("label", [Weighing(), Fair()])
def test_soft_labels_are_kept_where_the_policy_has_them(setting, label):
    episodes = setting.episodes("test", episodes=2)
    options = {"record": True, "label": label}
    hard, soft = (
        cjs.rollout(cjs.fair(), setting, episodes, soft=soft, **options).labels
        for soft in (False, True)
    )
    for one, other in zip(hard, soft, strict=True):
        if isinstance(label, Weighing):
            assert other.shape == (len(one), 2, 3)
            np.testing.assert_array_equal(other[:, 0, :2], one)
            np.testing.assert_allclose(other[..., 2].sum(1), 1)
        else:
            np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize(
    ("name", "answers", "message"),
    [
        ("act", [[0, 1]], r"`act` of the label must .* 2 episodes, got int64 of shape \(1, 2\)"),
        ("act", np.zeros(3), r"`act` of the label must .* got float64 of shape \(3,\)"),
        ("act", [[0.0, 1.0]] * 2, "`act` of the label must give whole numbers"),
        ("act", [[np.nan, 1]] * 2, "`act` of the label must give whole numbers"),
        ("act", [[0, 1], [999, 999]], "label of episode `667`: `choice` must be -1 or .* got 999"),
        ("act", [[0, 1], [-2, 1]], "label of episode `667`: `choice` must be -1 or .* got -2"),
        ("act", [[0, 0]] * 2, "label of episode `666`: `executors` must lie between 1 and 12"),
        ("act", [[0, 13]] * 2, "label of episode `666`: `executors` must lie .* got 13"),
        ("weighed", np.zeros((2, 4, 2)), r"`weighed` of the label .* shape \(2, 4, 2\)"),
        ("weighed", np.zeros((1, 4, 3)), r"`weighed` .* each of 2 episodes, .* \(1, 4, 3\)"),
        ("weighed", np.zeros((2, 0, 3)), r"`weighed` .* at least one .* \(2, 0, 3\)"),
        ("weighed", [[[0, 1, 1]]] * 2, "`weighed` of the label must give floats, .* got int64"),
        ("weighed", [[[0, 1, np.nan]]] * 2, "label of episode `666`: .* finite weight .* nan"),
        ("weighed", [[[0, 1, 1.0]], [[0, 1, -0.5]]], "label of episode `667`: .* weight >= 0"),
        ("weighed", [[[np.inf, 1, 1.0]]] * 2, "label of episode `666`: .* got .inf, 1.0, 1.0"),
        ("weighed", [[[0, 1.5, 1.0]]] * 2, "label of episode `666`: an answer must be whole"),
        ("weighed", [[[99, 1, 1.0]]] * 2, "label of episode `666`: `choice` .* got 99"),
        ("weighed", [[[0, 1e30, 1.0]]] * 2, "label of episode `666`: `executors` must lie"),
    ],
)
def test_a_label_that_could_not_be_followed_is_refused(setting, name, answers, message):
    label = Fair()
    setattr(label, name, lambda observation: answers)
    with pytest.raises(ValueError, match=message):
        cjs.rollout(Fair(), setting, setting.episodes("test", episodes=2), label=label, soft=True)


def test_the_numbers_of_an_answer_without_weight_are_free(setting):
    class Padded(Weighing):
        def weighed(self, observation):
            answers = super().weighed(observation)
            return np.concatenate([answers, np.full_like(answers[:, :1], 99) * [1, 1, 0]], 1)

    episodes = setting.episodes("test", episodes=1)
    (labels,) = cjs.rollout(Fair(), setting, episodes, label=Padded(), soft=True).labels
    assert labels[:, -1].tolist() == [[99, 99, 0]] * len(labels)


def test_a_label_weighs_as_many_answers_at_every_decision(setting):
    class Growing(Weighing):
        def weighed(self, observation):
            return super().weighed(observation)[:, int(observation["time_ms"][0] == 0) :]

    episodes = setting.episodes("test", episodes=1)
    with pytest.raises(ValueError, match=r"label of episode `666`: .* at every .* got 1 and 2"):
        cjs.rollout(Fair(), setting, episodes, label=Growing(), soft=True)


def test_an_episode_does_not_depend_on_its_batch(setting):
    episodes = setting.episodes("valid", episodes=4, seed=3)
    together, alone = (cjs.rollout(Fair(), setting, episodes, batch=b) for b in (4, 1))
    assert together.jct_s.tolist() == alone.jct_s.tolist()


def test_a_batch_is_its_episodes_under_one_another(setting):
    runs = [cjs.Simulator(setting, e) for e in setting.episodes("test", episodes=3)]
    for steps, run in zip((0, 20, 55), runs, strict=True):
        for _ in range(steps):
            run.step(*run.ask(cjs.fifo()))
    whole = cjs.observe(runs, [4, 5, 9])
    assert whole["episode"].tolist() == [4, 5, 9]
    for b, run in enumerate(runs):
        one = run.observe()
        first_job, first_stage = whole["job_ptr"][b], whole["stage_ptr"][b]
        rows = slice(first_stage, whole["stage_ptr"][b + 1])
        for name in ("stages", "schedulable", "frontier", "stage_id"):
            np.testing.assert_array_equal(whole[name][rows], one[name])
        np.testing.assert_array_equal(whole["stage_job"][rows] - first_job, one["stage_job"])
        jobs = slice(first_job, whole["job_ptr"][b + 1])
        np.testing.assert_array_equal(whole["jobs"][jobs], one["jobs"])
        edges = slice(whole["edge_ptr"][b], whole["edge_ptr"][b + 1])
        np.testing.assert_array_equal(whole["edges"][edges] - first_stage, one["edges"])
        source = one["source_job"][0]
        assert whole["source_job"][b] == (source + first_job if source >= 0 else -1)
        for name in ("committable", "time_ms", "can_wait", "executors"):
            assert whole[name][b] == one[name][0]


def test_an_observation_tells_what_the_simulator_knows(setting):
    run = cjs.Simulator(setting, setting.episodes("test", episodes=1)[0])
    while not run.done:
        seen, jobs = run.observe(), run.episode.jobs
        job = seen["job_id"][seen["stage_job"]]
        stage = jobs.first_stage[job] + seen["stage_id"]
        np.testing.assert_array_equal(stage[seen["schedulable"]], run.schedulable)
        columns = seen["stages"].T
        demand = (
            columns[STAGE["unstarted"]] - columns[STAGE["moving"]] - columns[STAGE["committed"]]
        )
        np.testing.assert_array_equal(columns[STAGE["demand"]], demand)
        np.testing.assert_array_equal(columns[STAGE["tasks"]], jobs.tasks[stage])
        work_ms = columns[STAGE["unstarted"]] * columns[STAGE["recent_ms"]]
        np.testing.assert_allclose(columns[STAGE["work_ms"]], work_ms, rtol=1e-6)
        assert (columns[STAGE["unstarted"]] + columns[STAGE["running"]] > 0).all()
        age_ms = run.time_ms - jobs.arrival_ms[seen["job_id"]]
        np.testing.assert_allclose(seen["jobs"][:, JOB["age_ms"]], age_ms, rtol=1e-6, atol=1e-3)
        parents = np.bincount(seen["edges"][:, 1], minlength=len(stage))
        np.testing.assert_array_equal(seen["frontier"], parents == 0)
        assert seen["jobs"][:, JOB["is_source"]].sum() == (seen["source_job"][0] >= 0)
        run.step(*run.ask(cjs.fair()))


def test_a_policy_is_told_what_is_wrong_with_its_answer(setting):
    class Wrong(Fair):
        def __init__(self, answers):
            self.answers = answers

        def act(self, observation):
            return self.answers

    for answers, got in (
        (np.zeros(1, int), r"int64 of shape \(1,\)"),
        ([[0.9, 1]], r"float64 of shape \(1, 2\)"),
        ([["first", "1"]], "<U5"),
        (None, "object"),
        ([[0, 10**30]], "object"),
        ([[True, True]], "bool"),
    ):
        with pytest.raises(ValueError, match=rf"whole numbers .* each of 1 episodes, got {got}"):
            cjs.rollout(Wrong(answers), setting, setting.episodes("test", episodes=1))
    with pytest.raises(ValueError, match=r"session `666` .* a finite `action`, got \[nan inf\]"):
        cjs.rollout(Wrong([[np.nan, np.inf]]), setting, setting.episodes("test", episodes=1))
    for answers, message in (
        ([[99, 1]], "`choice` must be -1 or one of the .* got 99"),
        ([[0, 0]], "`executors` must lie between 1 and 12, got 0"),
        (np.array([[0, 2**64 - 1]], np.uint64), f".* between 1 and 12, got {2**64 - 1}"),
    ):
        with pytest.raises(ValueError, match=f"^episode `666`: {message}"):
            cjs.rollout(Wrong(answers), setting, setting.episodes("test", episodes=1))
    with pytest.raises(ValueError, match="at least one episode"):
        cjs.rollout(Fair(), setting, [])
    with pytest.raises(ValueError, match="got 0"):
        cjs.rollout(Fair(), setting, setting.episodes("test"), batch=0)


def test_a_policy_may_reuse_its_array(setting):
    class Thrifty(Fair):
        kept = np.zeros((1, 2), int)

        def act(self, observation):
            self.kept[:] = super().act(observation)
            return self.kept

    episodes = setting.episodes("test", episodes=1)
    thrifty, plain = (
        cjs.rollout(policy, setting, episodes, record=True) for policy in (Thrifty(), Fair())
    )
    np.testing.assert_array_equal(thrifty.actions[0], plain.actions[0])


def test_a_sequential_policy_runs_alone_with_one_reset(setting):
    class Counting(Fair):
        sequential = True
        resets, most = 0, 0

        def reset(self, seed):
            self.resets += 1

        def begin(self, simulators):
            self.most = max(self.most, len(simulators))

    policy = Counting()
    cjs.rollout(policy, setting, setting.episodes("test", episodes=2))
    assert (policy.resets, policy.most) == (1, 1)


def test_a_compiled_policy_travels_between_processes(setting):
    episodes = setting.episodes("test", episodes=1)
    wanted = cjs.rollout(cjs.fifo(), setting, episodes).jct_s
    again = pickle.loads(pickle.dumps(cjs.fifo()))
    assert cjs.rollout(again, setting, episodes).jct_s == wanted


def test_the_environment_passes_gymnasiums_check():
    env = gymnasium.make("netllm/CJS-v0", setting="synthetic", num_jobs=10, num_executors=8)
    check_env(env.unwrapped, skip_render_check=True)


def test_the_environment_runs_whole_episodes(setting):
    env = gymnasium.make("netllm/CJS-v0", setting=setting, part="test")
    seen, info = env.reset(seed=1, options={"episode": 2})
    assert info == {"episode_id": "668"}
    total_ms, done, policy = 0.0, False, Fair()
    while not done:
        simulator = env.unwrapped.simulator
        choice, executors = policy.act(simulator.observe())[0]
        seen, reward_ms, done, cut, info = env.step({"stage": choice, "executors": executors})
        assert seen in env.observation_space
        total_ms -= reward_ms
        assert not cut
    (wanted,) = cjs.rollout(cjs.fair(), setting, setting.episodes("test", seeds=[668])).jct_s
    assert info["jct_s"] == pytest.approx(wanted)
    assert total_ms == pytest.approx(wanted * 15e3)


def test_an_invalid_action_changes_nothing_and_says_why(setting):
    env = cjs.Env(setting=setting)
    seen, _ = env.reset(seed=1)
    count = int(seen["schedulable"].sum())
    assert env.action_space["stage"].n == count + 1
    again, reward_ms, done, _, info = env.step({"stage": count, "executors": 1})
    assert (reward_ms, done) == (0.0, False)
    assert "schedulable stages, got" in info["invalid"]
    for name, value in seen.items():
        np.testing.assert_array_equal(value, again[name])


OWN = """
from netllm_sims.cjs.compiled_policy_tools import committable, heuristic
from netllm_sims.cjs.engine.state_arrays import SCHEDULABLE


@heuristic
def last(world, state, parameters):
    return state.schedulable[state.g[SCHEDULABLE] - 1], min(committable(state), int(parameters[0]))


@heuristic
def wrong(world, state, parameters):
    return state.schedulable[0], committable(state) + 1
"""


def test_an_own_compiled_policy_runs_as_it_is_asked(setting, tmp_path, monkeypatch):
    (tmp_path / "own_cjs_policy.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    episodes = setting.episodes("test", episodes=2)
    policy = cjs.Heuristic("own_cjs_policy:last", [3])
    fast = cjs.rollout(policy, setting, episodes)
    slow = cjs.rollout(policy, setting, episodes, record=True)
    assert fast.jct_s.tolist() == slow.jct_s.tolist()
    assert max(actions[:, 1].max() for actions in slow.actions) == 3
    assert cjs.rollout(cjs.Heuristic("own_cjs_policy:last", [1]), setting, episodes).jct_s.max() > 0
    with pytest.raises(ValueError, match="`666`: `executors` must lie between 1 and 12, got 13"):
        cjs.rollout(cjs.Heuristic("own_cjs_policy:wrong"), setting, episodes)


def test_paths_run_down_the_unfinished_stages(setting):
    run = cjs.Simulator(setting, setting.episodes("test", episodes=1)[0])
    for _ in range(40):
        run.step(*run.ask(cjs.fair()))
    seen = run.observe()
    stages, edges = seen["stages"], seen["edges"]
    own = stages[:, STAGE["recent_ms"]]

    def longest(row):
        return own[row] + max((longest(child) for p, child in edges if p == row), default=0)

    assert len(edges)
    np.testing.assert_allclose(
        stages[:, STAGE["path_ms"]], [longest(row) for row in range(len(stages))], rtol=1e-6
    )


def test_the_time_in_the_cluster_grows_by_minus_the_reward(setting):
    run = cjs.Simulator(setting, setting.episodes("test", episodes=1)[0])
    before_ms, rewards_ms = run.observe()["job_ms"][0], 0.0
    for _ in range(30):
        rewards_ms += run.step(*run.ask(cjs.fair()))
    assert run.observe()["job_ms"][0] - before_ms == pytest.approx(-rewards_ms)


def test_an_episode_is_the_same_in_another_process(setting):
    episodes = setting.episodes("test", episodes=2)
    sent = pickle.loads(pickle.dumps(episodes))
    wanted = cjs.rollout(cjs.fair(), setting, episodes)
    assert cjs.rollout(cjs.fair(), setting, sent).jct_s.tolist() == wanted.jct_s.tolist()


def test_a_policy_that_answers_one_episode_with_nan_names_it(setting):
    episodes = setting.episodes("test", episodes=2)
    broken = Fair()
    broken.act = lambda observation: np.array([[0.0, 1.0], [np.nan, 1.0]])
    with pytest.raises(SessionError, match="finite `action`") as error:
        cjs.rollout(broken, setting, episodes)
    assert (error.value.session, error.value.field) == (episodes[1].id, "action")
