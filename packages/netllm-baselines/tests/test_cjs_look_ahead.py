import pickle
from importlib.metadata import entry_points

import numpy as np
import pytest
from netllm_baselines.cjs import Rollout, TunedShare
from netllm_sims import cjs
from netllm_sims.cjs.engine.state_arrays import BUSY, LUCK


@pytest.fixture(scope="module")
def small():
    return cjs.setting("synthetic", num_jobs=10, num_executors=8)


def asked(policy, simulator):
    """What a policy would choose where the simulator stands."""
    policy.reset(5)
    policy.begin([simulator])
    return tuple(policy.act(simulator.observe())[0].tolist())


def moments(setting, every):
    """A simulator, now and again during an episode under tuned-share."""
    simulator = cjs.Simulator(setting, setting.episodes("valid", episodes=1)[0])
    follow = TunedShare(setting)
    while not simulator.done:
        if simulator.decisions % every == 0:
            yield simulator
        simulator.step(*simulator.ask(follow))


def test_it_beats_what_it_starts_from(small):
    episodes = small.episodes("valid", seeds=range(20, 23))
    jct_s = [cjs.rollout(p(small), small, episodes).jct_s.mean() for p in (Rollout, TunedShare)]
    assert jct_s[0] < 0.95 * jct_s[1]


def test_an_episode_depends_on_the_seed_and_not_on_the_batch(small):
    episodes = small.episodes("valid", seeds=[20, 21])
    policy = Rollout(small, candidates=4, samples=2, more=2)
    both, again, other = (
        cjs.rollout(pickle.loads(pickle.dumps(policy)), small, episodes, seed=seed)
        for seed in (1, 1, 2)
    )
    alone = cjs.rollout(policy, small, episodes[1:], seed=1)
    assert both.jct_s.tolist() == again.jct_s.tolist() != other.jct_s.tolist()
    assert both.jct_s[1] == alone.jct_s[0]


def test_it_labels_states_of_another_policy_and_some_differ(small):
    episodes = small.episodes("valid", seeds=[20])
    run = cjs.rollout(TunedShare(small), small, episodes, record=True, label=Rollout(small))
    plain = cjs.rollout(TunedShare(small), small, episodes)
    assert run.jct_s.tolist() == plain.jct_s.tolist()
    changed = (run.actions[0] != run.labels[0]).any(axis=1).mean()
    assert 0.05 < changed < 0.95
    for seen, (choice, executors) in zip(run.observations[0], run.labels[0], strict=True):
        assert -1 <= choice < seen["schedulable"].sum()
        assert choice >= 0 or seen["can_wait"][0]
        assert 1 <= executors <= seen["committable"][0]


def test_it_weighs_several_answers(small):
    episodes = small.episodes("valid", seeds=[20])
    policy = Rollout(small, samples=4, more=0)
    run = cjs.rollout(policy, small, episodes, record=True, label=policy, soft=True)
    plain = cjs.rollout(Rollout(small, samples=4, more=0), small, episodes)
    assert run.jct_s.tolist() == plain.jct_s.tolist()
    answers = run.labels[0]
    for seen, row in zip(run.observations[0], answers, strict=True):
        valid = row[row[:, 2] > 0]
        assert (valid[:, 0] < seen["schedulable"].sum()).all()
        assert seen["can_wait"][0] or (valid[:, 0] >= 0).all()
        assert (valid[:, 1] >= 1).all()
        assert (valid[:, 1] <= seen["committable"][0]).all()
    choice, executors, weight = np.moveaxis(answers, -1, 0)
    stake = weight.sum(axis=1)
    assert (stake > 0.19).all()
    assert (stake < 4.01).all()
    # What is taken weighs more than one of as many equal ones.
    taken = (choice == run.actions[0][:, :1]) & (
        (executors == run.actions[0][:, 1:]) | (choice == -1)
    )
    share = np.where(taken, weight, 0).sum(axis=1) / stake
    assert share.mean() > 1.3 * (1 / (weight > 0).sum(axis=1)).mean()


def test_the_choice_of_tuned_share_weighs_most_where_nothing_is_at_stake():
    alone = cjs.setting("synthetic", num_jobs=1, num_executors=1)
    episodes = alone.episodes("valid", seeds=[20])
    policy = Rollout(alone)
    run = cjs.rollout(TunedShare(alone), alone, episodes, record=True, label=policy, soft=True)
    calm = [row for row in run.labels[0] if row[:, 2].sum() < 0.21]
    assert calm
    for row in calm:
        assert row[:, 2].argmax() == 0


@pytest.mark.parametrize("another_comes", [True, False])
def test_no_executors_are_left_where_nothing_wakes_them_while_jobs_come(another_comes):
    """Two equal executors at one stage; its job's other stage is ready, so no end unlocks it."""
    dag = cjs.build("d", [cjs.Waves.same(2, [1e3, 9e3]), cjs.Waves.same(1, [500.0])], [])
    jobs = [cjs.Job(dag, at_ms) for at_ms in ([0.0, 1e6] if another_comes else [0.0])]
    place = cjs.setting("synthetic", num_executors=2, num_jobs=len(jobs))
    episode = cjs.Episode(id="e", seed=0, jobs=cjs.Workload(jobs))
    simulator = cjs.Simulator(place, episode)
    simulator.step(0, 2)
    policy = Rollout(place)
    policy.reset(0)
    policy.begin([simulator])
    choice, _, weight = policy.weighed(simulator.observe())[0].T
    assert simulator.observe()["can_wait"][0]
    waiting = weight[choice == -1].sum()
    assert (waiting == 0) == another_comes


def test_what_will_happen_does_not_change_a_choice(small):
    """Neither tasks to come, nor the ends of running ones, nor the later jobs are looked at."""
    policy = Rollout(small)
    for simulator in moments(small, 7):
        wanted = asked(policy, simulator)
        twin = simulator.copy()
        twin.state.g[LUCK] += 12345
        state, now_ms = twin.state, twin.time_ms
        for i in range(int((state.heap_ms > now_ms).sum())):
            if state.executor[state.heap[i, 1], BUSY]:
                state.heap_ms[i] = now_ms + 1.0 + 3.0 * (state.heap_ms[i] - now_ms)
        twin.world = twin.world._replace(
            arrival_ms=np.where(twin.world.arrival_ms > now_ms, 1e12, twin.world.arrival_ms)
        )
        assert asked(policy, twin) == wanted


def test_asking_leaves_the_episode_as_it_was(small):
    for simulator in moments(small, 20):
        before = [array.copy() for array in simulator.state]
        asked(Rollout(small), simulator)
        scratch = simulator.state._fields.index("row_of"), simulator.state._fields.index("spare")
        for k, (old, new) in enumerate(zip(before, simulator.state, strict=True)):
            assert k in scratch or np.array_equal(old, new)


@pytest.mark.parametrize(("executors", "jobs"), [(1, 2), (3, 1), (60, 4)])
def test_any_size_is_played_to_its_end(executors, jobs):
    setting = cjs.setting("synthetic", num_jobs=jobs, num_executors=executors)
    policy = Rollout(setting, candidates=3, samples=2, more=0)
    assert np.isfinite(cjs.rollout(policy, setting, setting.episodes("test", episodes=1)).jct_s)


def test_one_candidate_is_tuned_share(small):
    episodes = small.episodes("valid", seeds=[20])
    one = cjs.rollout(Rollout(small, candidates=1), small, episodes)
    assert one.jct_s.tolist() == cjs.rollout(TunedShare(small), small, episodes).jct_s.tolist()


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("candidates", 0, "`candidates` must be at least 1, got 0"),
        ("samples", 1, "`samples` must be at least 2, got 1"),
        ("more", -1, "`more` must be at least 0, got -1"),
        ("threshold", np.nan, "`threshold` must be finite and >= 0, got nan"),
    ],
)
def test_a_wrong_number_is_named(small, argument, value, message):
    with pytest.raises(ValueError, match=message):
        Rollout(small, **{argument: value})


def test_it_says_that_it_knows_the_slow_executors_where_there_are_some(small):
    mixed = cjs.setting("synthetic", num_jobs=4, num_executors=4, slow_executors=2)
    assert Rollout(small).knows == "job profiles"
    assert Rollout(mixed).knows == "job profiles, slow executors"
    run = cjs.rollout(Rollout(mixed), mixed, mixed.episodes("valid", seeds=[20]))
    assert np.isfinite(run.jct_s).all()


def test_it_follows_the_protocol_and_asks_for_its_simulators(small):
    (point,) = entry_points(group="netllm.policies", name="cjs.rollout")
    policy = point.load()(small)
    assert isinstance(policy, cjs.Policy)
    seen = cjs.Simulator(small, small.episodes("valid", seeds=[20])[0]).observe()
    with pytest.raises(RuntimeError, match="`begin`"):
        policy.act(seen)


def test_a_standing_answer_is_kept_unless_another_surely_gains(small):
    sure, open_minded = (Rollout(small, threshold=threshold) for threshold in (1e6, 0.7))
    follow, kept, changed = cjs.fair(), 0, 0
    for simulator in moments(small, 3):
        seen, standing = simulator.observe(), np.array([simulator.ask(follow)], np.int64)
        for policy in (sure, open_minded):
            policy.reset(5)
            policy.begin([simulator])
        (own,), (other,) = (p.improve(seen, standing) for p in (sure, open_minded))
        assert own[0] == standing[0, 0]
        assert own[0] < 0 or 1 <= own[1] <= standing[0, 1]
        kept += 1
        changed += tuple(other) != tuple(own)
        assert other[0] < len(simulator.schedulable)
    assert kept > changed > 0
