"""Congestion control from end to end, on the tiny backbone and generated links."""

import json

import netllm
import numpy as np
import pytest
from netllm import registry
from netllm.cc.task import FIELDS
from netllm_sims.cc import FACTORS, HISTORY, UNLIMITED, nearest

TINY = {"steps": 4, "batch": 2, "layers": 1, "dtype": "float32", "validate_every": 2, "rank": 2}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return netllm.rl_collect(
        "cc",
        policy=["copa", "random"],
        relabel="capacity",
        epsilon=0.1,
        setting="synthetic",
        episodes=4,
        out=tmp_path_factory.mktemp("cc") / "pool",
    )


@pytest.fixture(scope="module")
def run(pool, tmp_path_factory):
    out = tmp_path_factory.mktemp("cc") / "run"
    netllm.adapt("cc", pool=pool.path, backbone="tiny-random", out=out, validation=2, **TINY)
    return out


def test_a_pool_holds_factors_whatever_drove(pool):
    assert [episode.policy for episode in pool] == ["copa", "random"] * 2
    for episode in pool:
        assert episode.actions.shape == (60,)
        assert episode.actions.dtype.kind == episode.labels.dtype.kind == "i"
        assert {*np.unique([episode.actions, episode.labels])} <= {*range(len(FACTORS))}
        assert {*episode.observations} >= {*FIELDS, "reward", "rtt_ms"}
        assert episode.observations["rtt_ms"].shape == (60, HISTORY)
        assert episode.meta["utility"] == pytest.approx(episode.rewards.mean(), abs=1e-5)
        assert episode.reason == "the flow is over"


def test_the_rate_of_a_pool_is_what_its_actions_made_of_it(pool):
    episode = pool[1]
    rate = episode.observations["rate_mbps"]
    wanted = rate[:-1] * np.array(FACTORS)[episode.actions[:-1]]
    assert rate[1:] == pytest.approx(np.clip(wanted, 0.01, 1000.0), rel=1e-4)


def test_labels_are_the_factors_closest_to_what_the_teacher_would_send(pool):
    # where the bound is asked, its rate is what the link will carry: one step follows it closely
    task = registry.task("cc")
    setting = task.setting("synthetic")
    links = task.episodes(setting, "train", count=4)
    teacher = registry.policy("cc", "capacity", setting)
    senders = task.environment(setting, links, seed=0, record=True)
    teacher.reset(0)
    teacher.begin(senders.running())
    observation = senders.observation()
    controls = teacher.act(observation)
    labels = senders.check_labels(controls, links, soft=False)
    assert controls[:, 1].tolist() == [UNLIMITED] * 4
    expected = nearest(controls, observation["rate_mbps"], observation["min_rtt_ms"])
    assert labels.tolist() == expected.tolist()


def test_a_model_is_adapted_tested_and_compared(run):
    report = netllm.test("cc", checkpoint=run, policy=["copa", "capacity"], episodes=4)
    results = {result.policy or "model": result for result in report.results}
    assert len(results) == 3
    for result in results.values():
        for row in result.episodes:
            assert np.isfinite([row[metric.key] for metric in registry.task("cc").metrics]).all()
            assert 0 <= row["loss"] <= 1
            assert row["fairness"] == 1.0


def test_the_table_of_rivals_shows_the_bound_only_where_it_is_one(netllm):
    small = ("--set", "intervals=30", "--episodes", "2", "--json")
    code, out, _ = netllm("test", "cc", "--setting", "synthetic", "two-flows", *small)
    assert code == 0
    shown = {(one["setting"], one["policy"]) for one in json.loads(out)["results"]}
    rivals = {"cubic", "vegas", "copa", "bbr", "vivace", "aurora"}
    assert shown == {
        *(("synthetic", name) for name in (*rivals, "capacity")),
        *(("two-flows", name) for name in rivals),
    }


def test_aurora_is_trained_by_its_command(netllm, tmp_path):
    file = tmp_path / "aurora.npz"
    words = ("--setting", "synthetic", "--steps", "500", "--train", "links=4")
    code, _, err = netllm("train-baseline", "cc", "aurora", *words, "--out", file)
    assert (code, file.is_file()) == (0, True), err
    small = ("--setting", "synthetic", "--episodes", "2", "--json")
    code, _, err = netllm("test", "cc", "--policy", f"aurora:{file}", *small)
    assert code == 0, err


def test_flows_are_served_with_their_fallback(run):
    task = registry.task("cc")
    setting = task.setting("synthetic")
    senders = task.environment(
        setting, task.episodes(setting, "test", count=2), seed=0, record=False
    )
    fields = task.observation_fields(setting)
    seen = senders.observation()
    assert {*fields} == {*seen}
    for name, values in seen.items():
        assert values.shape[1:] == fields[name].shape, name
    answers = registry.policy("cc", task.fallback, setting).act(seen)
    assert answers.dtype.kind == "i"


def test_recorded_traces_drawn_twice_are_one_cluster():
    task = registry.task("cc")
    links = task.episodes(task.setting("synthetic"), "test", count=3)
    clusters = task.clusters(task.setting("synthetic"), [*links, links[0]])
    assert len({cluster["trace"] for cluster in clusters.values()}) == 3
