import os
import pickle
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from netllm_baselines.cjs import (
    FIFO,
    SRW,
    CriticalPath,
    Fair,
    Random,
    TrueFIFO,
    TunedShare,
    WeightedFair,
)
from netllm_sims import cjs

RULES = (FIFO, Fair, TrueFIFO, SRW, CriticalPath, WeightedFair, TunedShare)


@pytest.fixture(scope="module", params=["alike", "mixed"])
def small(request):
    mixed = {"slow_executors": 5, "arrivals": "bursts"} if request.param == "mixed" else {}
    return cjs.setting("synthetic", num_jobs=15, num_executors=12, **mixed)


@pytest.fixture(scope="module")
def real():
    data = os.environ.get("NETLLM_DATA")
    if not data or not Path(data, "cjs").is_dir():
        pytest.skip("NETLLM_DATA names no folder with the real CJS data")
    return cjs.setting("default", data=data)


def lucks(setting, seed, count):
    """Episodes of one job sequence that differ in their tasks' durations."""
    jobs = setting.workload(seed)
    return [
        cjs.Episode(id=f"{luck}", seed=seed, jobs=jobs, durations=cjs.Sampled(luck))
        for luck in range(count)
    ]


@pytest.mark.parametrize(("policy", "mean_s", "sd_s"), [(FIFO, 85.53, 0.22), (Fair, 63.82, 0.45)])
def test_the_published_rules_have_the_published_means(real, policy, mean_s, sd_s):
    """The public simulator's mean of 5 runs on sequence 666 and their deviation."""
    jct_s = cjs.rollout(policy(real), real, lucks(real, 666, 8)).jct_s
    assert abs(jct_s.mean() - mean_s) < 3 * sd_s * np.sqrt(1 / 5 + 1 / 8)


@pytest.mark.parametrize("policy", RULES)
def test_a_rule_runs_compiled_as_it_is_asked(small, policy):
    episodes = small.episodes("test", episodes=2)
    fast = cjs.rollout(policy(small), small, episodes)
    slow = cjs.rollout(pickle.loads(pickle.dumps(policy(small))), small, episodes, record=True)
    assert fast.jct_s.tolist() == slow.jct_s.tolist()
    assert np.isfinite(fast.jct_s).all()


@pytest.mark.parametrize("policy", [*RULES, Random])
def test_policies_follow_the_protocol_and_have_entry_points(small, policy):
    assert isinstance(policy(small), cjs.Policy)
    points = entry_points(group="netllm.policies")
    assert any(p.load() is policy for p in points if p.name.startswith("cjs."))


def test_random_follows_its_seed_and_takes_every_choice(small):
    episodes = small.episodes("test", episodes=2)
    runs = [cjs.rollout(Random(small), small, episodes, seed=s, record=s == 1) for s in (1, 1, 2)]
    assert runs[0].jct_s.tolist() == runs[1].jct_s.tolist() != runs[2].jct_s.tolist()
    seen = [o for some in runs[0].observations for o in some]
    stages, executors = np.concatenate(runs[0].actions).T
    assert (executors >= 1).all()
    assert (stages >= 0).all()
    shares = stages / [o["schedulable"].sum() for o in seen]
    many = np.array([o["committable"][0] for o in seen])
    assert 0.2 < shares.mean() < 0.5
    np.testing.assert_allclose(executors.mean(), (1 + many).mean() / 2, rtol=0.15)


def test_weighted_fair_without_weights_is_fair(small):
    episodes = small.episodes("test", episodes=3)
    fair = cjs.rollout(Fair(small), small, episodes)
    same = cjs.rollout(WeightedFair(small, exponent=0.0), small, episodes)
    assert same.jct_s.tolist() == fair.jct_s.tolist()
    with pytest.raises(ValueError, match="finite, got nan"):
        WeightedFair(small, exponent=np.nan)


@pytest.mark.parametrize("policy", [TrueFIFO, SRW, CriticalPath])
def test_orders_choose_as_plain_python_does(small, policy):
    """Recomputed from the observation at every decision of an episode under Fair."""
    unstarted, running, recent = (
        cjs.STAGE_COLUMNS.index(name) for name in ("unstarted", "running", "recent_ms")
    )
    run = cjs.Simulator(small, small.episodes("test", episodes=1)[0])
    while not run.done:
        seen = run.observe()
        tasks = seen["stages"][:, unstarted] + 0.5 * seen["stages"][:, running]
        left = np.bincount(seen["stage_job"], tasks * seen["stages"][:, recent])
        path = seen["stages"][:, recent].astype(float)
        for _ in range(len(path)):
            for parent, child in seen["edges"]:
                through = seen["stages"][parent, recent] + path[child]
                path[parent] = max(path[parent], through)
        rows = np.flatnonzero(seen["schedulable"])
        jobs, open_ = seen["stage_job"][rows], ~seen["frontier"][rows]
        if policy is CriticalPath:
            wanted = np.lexsort((-path[rows],))
        else:
            wanted = np.lexsort((open_, jobs if policy is TrueFIFO else left[jobs]))
        choice, executors = run.ask(policy(small))
        assert (choice, executors) == (wanted[0], run.committable)
        run.step(*run.ask(Fair(small)))


@pytest.mark.parametrize(("executors", "mean_s"), [(50, 43.84), (30, 105.8)])
def test_tuned_share_is_as_good_as_its_prototype(executors, mean_s, real):
    """A prototype's means over sequences 666, 1 and 2, with other draws: within 3 %."""
    setting = cjs.setting("default", data=real.data, num_executors=executors)
    episodes = setting.episodes("test", seeds=[666, 1, 2])
    jct_s = cjs.rollout(TunedShare(setting), setting, episodes).jct_s.mean()
    assert jct_s == pytest.approx(mean_s, rel=0.03)
