"""The PPO policy: features, weights and choices."""

import os
from pathlib import Path

import numpy as np
import pytest
from netllm_baselines.abr.ppo import PPO, PPOSampled, PPOWide, PPOWideSampled
from netllm_baselines.abr.ppo_features import HORIZONS_S, Future, features, width
from netllm_baselines.perceptron import Perceptron
from netllm_sims.abr import Setting, Simulator, Trace, rollout, setting

DATA = os.environ.get("NETLLM_DATA")
needs_data = pytest.mark.skipif(
    not DATA, reason="NETLLM_DATA does not name the folder of the real traces"
)


@pytest.fixture(scope="module")
def synthetic() -> Setting:
    return setting("synthetic")


def linear(levels: int, *, feature: int, bias: float) -> Perceptron:
    """An actor without hidden layer that likes level 0 by `bias`, level 1 by one feature."""
    matrix = np.zeros((width(levels), levels), dtype=np.float32)
    matrix[feature, 1] = 1
    biases = np.zeros(levels, dtype=np.float32)
    biases[0] = bias
    return Perceptron(
        mean=np.zeros(width(levels), dtype=np.float32),
        std=np.ones(width(levels), dtype=np.float32),
        matrices=(matrix,),
        biases=(biases,),
    )


def test_features_are_finite_from_the_first_chunk_to_the_last(synthetic: Setting) -> None:
    simulator = Simulator(synthetic, synthetic.sessions("valid", episodes=5))
    observation, done = simulator.reset(), np.zeros(5, dtype=bool)
    while not done.all():
        seen = features(observation)
        assert seen.shape == (5, width(len(synthetic.video.rates_kbps)))
        assert np.isfinite(seen).all()
        observation, _, done = simulator.step(np.arange(5))


def test_slack_is_the_buffer_left_after_the_download(synthetic: Setting) -> None:
    levels = len(synthetic.video.rates_kbps)
    simulator = Simulator(synthetic, synthetic.sessions("valid", episodes=3))
    observation = simulator.reset()
    size_mb, speed = observation["sizes_mb"][:, 0], observation["throughput_mbps"][:, -1:]
    expected = np.clip((observation["buffer_s"][:, None] - size_mb * 8 / speed) / 10, -3, 6)
    first = 12 + 6 * levels
    assert np.allclose(features(observation)[:, first : first + levels], expected, rtol=1e-4)


def test_the_future_is_the_mean_bandwidth_of_each_window_round_the_trace() -> None:
    trace = Trace(
        id="two", time_s=np.array([0.0, 10.0, 20.0]), bandwidth_mbps=np.array([9.0, 1.0, 3.0])
    )
    future = Future(traces=[trace, trace], scale=np.array([1.0, 2.0]))
    seen = np.exp(future(np.array([0.0, 18.0])))
    assert seen.shape == (2, len(HORIZONS_S) - 1)
    before_8_s = HORIZONS_S.index(8)
    assert np.allclose(seen[0, :before_8_s], 1.0)
    assert seen[0, before_8_s] == pytest.approx((2 * 1 + 2 * 3) / 4)
    assert np.allclose(seen[1, :4], [6, 6, 2, 2])


def test_the_most_probable_level_is_chosen_unless_sampling(synthetic: Setting) -> None:
    actor = linear(6, feature=0, bias=10.0)
    sessions = synthetic.sessions("valid", episodes=4)
    result = rollout(PPO(synthetic, weights=actor), synthetic, sessions)
    assert (result.actions == 0).all()


def test_sampled_levels_follow_their_probabilities(synthetic: Setting) -> None:
    policy = PPOSampled(synthetic, weights=linear(6, feature=0, bias=1.0))
    one = Simulator(synthetic, synthetic.sessions("valid", episodes=1)).reset()
    many = {name: np.repeat(value, 20_000, axis=0) for name, value in one.items()}
    policy.reset(3)
    share = np.bincount(policy.act(many), minlength=6) / 20_000
    expected = policy.probabilities(one)[0]
    assert expected.sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(share - expected).max() < 5 * np.sqrt(0.25 / 20_000)


def test_a_reset_repeats_the_sampled_levels(synthetic: Setting) -> None:
    policy = PPOSampled(synthetic, weights=linear(6, feature=0, bias=1.0))
    sessions = synthetic.sessions("valid", episodes=20)
    first, again, other = (rollout(policy, synthetic, sessions, seed=s).actions for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_a_ladder_of_another_length_is_refused(synthetic: Setting) -> None:
    with pytest.raises(ValueError, match=r"choose among 4 rates.*has 6.*Train your own"):
        PPO(synthetic, weights=linear(4, feature=0, bias=0.0))


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    actor = linear(6, feature=2, bias=0.5)
    actor.save(tmp_path / "a.npz")
    back = Perceptron.load(tmp_path / "a.npz")
    x = np.random.default_rng(0).normal(size=(9, width(6))).astype(np.float32)
    assert (back.logits(x) == actor.logits(x)).all()
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_missing_and_foreign_weight_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.npz.*train-baseline"):
        Perceptron.load(tmp_path / "absent.npz")
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, a=np.zeros(3))
    with pytest.raises(ValueError, match=r"foreign\.npz: must hold the weights of ppo "):
        Perceptron.load(foreign)
    foreign.write_bytes(foreign.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"foreign\.npz: must hold the weights of ppo "):
        Perceptron.load(foreign)
    foreign.write_text("no zip")
    with pytest.raises(ValueError, match=r"foreign\.npz: must hold the weights of ppo "):
        Perceptron.load(foreign)


def test_the_shipped_weights_say_how_they_were_made(synthetic: Setting) -> None:
    path = PPO.shipped(synthetic)
    meta = Perceptron.load(path).meta
    assert path.stat().st_size < 2_000_000
    assert {"setting", "seed", "steps", "command", "valid_qoe"} <= meta.keys()
    assert meta["setting"] == "synthetic"


def test_the_shipped_weights_reach_their_validation_figure(synthetic: Setting) -> None:
    policy = PPO(synthetic)
    count = policy.actor.meta["recipe"]["validation_sessions"]
    result = rollout(policy, synthetic, synthetic.sessions("valid", episodes=count))
    assert result.qoe.mean() == pytest.approx(policy.actor.meta["valid_qoe"], abs=0.002)


@needs_data
def test_the_shipped_weights_reach_1_05_on_fcc_test() -> None:
    default = setting("default")
    result = rollout(PPO(default), default, default.sessions("test"))
    assert len(result.ids) == 100
    assert result.qoe.mean() >= 1.05


def test_ppo_wide_plays_the_top_level_and_answers_with_levels_of_the_ladder(
    synthetic: Setting,
) -> None:
    sessions = synthetic.sessions("test", episodes=40)
    wide, usual = (rollout(policy(synthetic), synthetic, sessions) for policy in (PPOWide, PPO))
    assert set(np.unique(wide.actions)) <= set(range(6))
    assert (wide.actions == 5).mean() > 0.01
    assert not (usual.actions == 5).any()
    drawn = rollout(PPOWideSampled(synthetic), synthetic, sessions, seed=1)
    assert (drawn.actions != wide.actions).any()


def test_ppo_wide_has_one_set_of_weights_that_says_how_it_was_made(synthetic: Setting) -> None:
    meta = PPOWide(synthetic).actor.meta
    assert {"setting", "seed", "steps", "command", "valid_plain", "valid_wide"} <= meta.keys()
    assert meta["command"].startswith("netllm train-baseline abr ppo-wide ")


@needs_data
def test_ppo_wide_is_ahead_of_ppo_where_bandwidth_and_video_are_new() -> None:
    place = setting("unseen-both")
    sessions = place.sessions("test")
    wide, usual = (rollout(policy(place), place, sessions).qoe for policy in (PPOWide, PPO))
    assert wide.mean() > usual.mean() + 0.2
