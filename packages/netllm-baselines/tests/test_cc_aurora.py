import json

import numpy as np
import pytest
from netllm_baselines.cc import CUBIC, Aurora
from netllm_baselines.cc.aurora_features import WIDTH, features
from netllm_baselines.cc.aurora_recipe import AuroraRecipe
from netllm_baselines.flows import CNN
from netllm_baselines.perceptron import Perceptron
from netllm_sims import cc


@pytest.fixture(scope="module")
def place():
    return cc.setting("synthetic")


def seen_after(link, actions):
    simulator = cc.Simulator([link], len(actions), dtype=np.float64)
    simulator.reset()
    for action in actions:
        observation, _, _ = simulator.step(np.array([action]))
    return observation


def test_the_features_are_the_same_on_a_link_ten_times_as_fast(place):
    from netllm_sims.abr import Trace

    rows = []
    for factor in (1.0, 10.0):
        trace = Trace("t", np.array([0.0, 60.0]), np.full(2, 6.0 * factor))
        link = cc.Link(id="l", trace=trace, buffer_packets=30.0 * factor)
        rates = [(8.0 * factor, cc.UNLIMITED)] * 20
        rows.append(features(seen_after(link, rates))[0])
    assert rows[0].shape == (WIDTH,)
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-4, atol=1e-6)
    # 8 of 6 Mbit/s: the round trip has grown by a third of the time, until the buffer is full
    assert rows[0][2 * cc.HISTORY] == pytest.approx(np.log(8 / 6), rel=1e-5)
    assert rows[0][-1] == pytest.approx(0.25)


def test_the_features_are_zero_before_the_start(place):
    simulator = cc.Simulator(place.links("test", episodes=2), 5)
    assert not features(simulator.reset()).any()


def test_the_shipped_weights_say_how_they_were_made_and_beat_a_published_rule(place):
    shipped = Aurora(place)
    assert shipped.actor.meta["command"].startswith("netllm train-baseline cc aurora ")
    links = place.links("valid")
    mine, published = (
        cc.rollout(policy, place, links)["utility"] for policy in (shipped, CUBIC(place))
    )
    assert mine.mean() > published.mean()


def test_weights_must_be_there_and_fit(place, tmp_path):
    with pytest.raises(FileNotFoundError, match="netllm train-baseline cc aurora --out"):
        Aurora(place, weights=tmp_path / "no.npz")
    small = Perceptron(
        mean=np.zeros(3), std=np.ones(3), matrices=(np.zeros((3, 9)),), biases=(np.zeros(9),)
    )
    with pytest.raises(ValueError, match=f"9 factors by {WIDTH} features, got 9 and 3"):
        Aurora(place, weights=small)
    with pytest.raises(ValueError, match=r"cnn\.npz: must hold .* there is no array 'matrix0'"):
        Aurora(place, weights=CNN.shipped())


def test_training_learns_and_is_the_same_for_a_seed(place, tmp_path):
    pytest.importorskip("torch")
    from netllm_baselines.cc.aurora_training import train_aurora

    few = {"links": 16, "hidden": 32, "validate_every": 6, "command": "x"}
    files = [
        train_aurora(place, out=tmp_path / f"{k}.npz", seed=seed, steps=60 * 16 * updates, **few)
        for k, (seed, updates) in enumerate(((0, 12), (0, 2), (0, 2), (1, 2)))
    ]
    first, one, again, other = (Perceptron.load(file) for file in files)
    assert all(np.array_equal(a, b) for a, b in zip(one.matrices, again.matrices, strict=True))
    assert not np.array_equal(one.matrices[0], other.matrices[0])
    lines = [json.loads(line) for line in files[0].with_suffix(".jsonl").read_text().splitlines()]
    assert len(lines) == 12
    assert lines[-1]["train_utility"] > lines[0]["train_utility"] + 0.5
    policy = Aurora(place, weights=files[0])
    links = place.links("valid")
    worth = cc.rollout(policy, place, links)["utility"].mean()
    assert worth == pytest.approx(first.meta["valid_utility"], rel=1e-5)
    sampled = cc.rollout(Aurora(place, weights=files[0], sample=True), place, links, seed=3)
    assert np.isfinite(sampled["utility"]).all()
    assert policy.probabilities(seen_after(links[0], [4] * 9)).sum() == pytest.approx(1.0)


def test_a_recipe_refuses_numbers_that_no_training_could_use():
    with pytest.raises(ValueError, match="`links` must be at least 1"):
        AuroraRecipe(links=0)
    with pytest.raises(ValueError, match=r"`discount` must lie in \[0, 1\]"):
        AuroraRecipe(discount=1.5)
