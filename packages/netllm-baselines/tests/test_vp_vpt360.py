"""VPT360: network, policy, weights and training, on few synthetic windows."""

import os
from pathlib import Path

import numpy as np
import pytest
from netllm_sims.vp import Setting, mae_deg, rollout, setting, wrap_deg

torch = pytest.importorskip("torch", reason="VPT360 needs the extra `learned`")

from netllm_baselines.vp import VPT360, HoldLast  # noqa: E402
from netllm_baselines.vp.training_recipe import Recipe  # noqa: E402
from netllm_baselines.vp.vpt360_network import HEADS, Block, network  # noqa: E402
from netllm_baselines.vp.vpt360_training import train_vpt360  # noqa: E402
from netllm_baselines.vp.weights_file import Weights, shipped  # noqa: E402

SMALL = Recipe(hidden=16, epochs=2, batch=64, rate=5e-3, train_stride=0, average=0.5)


@pytest.fixture(scope="module")
def synthetic() -> Setting:
    return setting("synthetic")


@pytest.fixture(scope="module")
def drawn() -> Weights:
    """Random weights that no one trained."""
    net = network(hidden=16, horizon=20, generator=torch.Generator().manual_seed(0))
    shape = {"history": 10, "horizon": 20, "rate_hz": 5.0, "hidden": 16}
    arrays = {name: value.half().numpy() for name, value in net.state_dict().items()}
    return Weights(arrays=arrays, meta={"kind": "vpt360", **shape})


def windows(count: int) -> np.ndarray:
    """Heads that wander over the ±180° meridian."""
    walk = np.random.default_rng(0).normal(0, 4, (count, 10, 3)).cumsum(axis=1)
    return wrap_deg(walk + np.array([0, 0, 178]))


def error_deg(policy, place: Setting, part: str) -> float:
    clips = place.clips(part)
    predicted = np.concatenate(rollout(policy, place, clips).predicted_deg)
    return float(mae_deg(predicted, np.concatenate([clip.future_deg for clip in clips])).mean())


def test_a_block_is_a_layer_of_torchs_encoder():
    generator = torch.Generator().manual_seed(1)
    theirs = torch.nn.TransformerEncoderLayer(16, HEADS, 64, dropout=0.0, batch_first=True).eval()
    ours = Block(16)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    names = {
        "queries_keys_values.": "self_attn.in_proj_",
        "mix.": "self_attn.out_proj.",
        "wide.": "linear1.",
        "narrow.": "linear2.",
        "first_norm.": "norm1.",
        "second_norm.": "norm2.",
    }
    state = theirs.state_dict()
    ours.load_state_dict(
        {
            our + kind: state[their + kind]
            for our, their in names.items()
            for kind in ("weight", "bias")
        }
    )
    tokens = torch.randn(3, 10, 16, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=1e-4, atol=1e-5)


def test_the_order_of_the_points_and_each_of_them_count(synthetic, drawn):
    policy, seen = VPT360(synthetic, weights=drawn), windows(4)
    plain = policy.act({"viewport_deg": seen})
    swapped = seen.copy()
    swapped[:, [2, 7]] = seen[:, [7, 2]]
    assert np.abs(wrap_deg(policy.act({"viewport_deg": swapped}) - plain)).max() > 0.01
    for point in range(10):
        other = seen.copy()
        other[:, point] += 20
        assert np.abs(wrap_deg(policy.act({"viewport_deg": other}) - plain)).max() > 0.01


def test_turning_the_world_across_the_meridian_changes_nothing_else(synthetic, drawn):
    """A yaw of 181° is -179°."""
    policy, seen = VPT360(synthetic, weights=drawn), windows(20)
    unwrapped = np.unwrap(seen, period=360, axis=1)
    assert (np.abs(unwrapped) > 180).any()
    apart = policy.act({"viewport_deg": seen}) - policy.act({"viewport_deg": unwrapped})
    assert np.abs(wrap_deg(apart)).max() < 1e-3


def test_a_window_is_answered_alike_in_any_batch(synthetic, drawn):
    policy, seen = VPT360(synthetic, weights=drawn), windows(5)
    together = policy.act({"viewport_deg": seen})
    alone = [policy.act({"viewport_deg": window[None]})[0] for window in seen]
    assert np.abs(wrap_deg(together - np.stack(alone))).max() < 1e-3


def test_a_short_training_beats_holding_and_repeats(synthetic, tmp_path):
    state = torch.get_rng_state()
    first, again = (
        train_vpt360(synthetic, out=tmp_path / name, seed=5, recipe=SMALL)
        for name in ("first.npz", "again.npz")
    )
    assert torch.equal(torch.get_rng_state(), state)
    trained = VPT360(synthetic, weights=first)
    held = error_deg(HoldLast(synthetic), synthetic, "valid")
    assert error_deg(trained, synthetic, "valid") < held
    for name, array in trained.weights.arrays.items():
        assert np.array_equal(array, VPT360(synthetic, weights=again).weights.arrays[name])


def test_a_width_that_heads_cannot_share_is_refused(synthetic, tmp_path):
    with pytest.raises(ValueError, match=r"`hidden` must be a multiple of 8 \(heads\), got 20"):
        train_vpt360(synthetic, out=tmp_path / "w.npz", hidden=20)


@pytest.mark.parametrize("name", ["vpt360-default", "vpt360-synthetic"])
def test_the_shipped_weights_say_how_they_were_made(name):
    meta = Weights.load(shipped(name), kind="vpt360", train="").meta
    assert shipped(name).stat().st_size < 1_500_000
    assert meta["setting"] == name.split("-")[-1]
    assert meta["command"].startswith("netllm train-baseline vp vpt360 ")
    assert {"seed", "recipe", "valid_mae_deg", "versions"} <= meta.keys()


def test_the_shipped_weights_reach_their_validation_figure(synthetic):
    policy = VPT360(synthetic)
    reached = error_deg(policy, synthetic, "valid")
    assert reached == pytest.approx(policy.weights.meta["valid_mae_deg"], abs=0.01)
    assert reached < error_deg(HoldLast(synthetic), synthetic, "valid")


def test_the_shipped_weights_reach_their_figures_on_real_data():
    data = os.environ.get("NETLLM_DATA")
    if not data or not Path(data, "vp").is_dir():
        pytest.skip("NETLLM_DATA names no folder with the real head movement")
    real = setting("default", data=data)
    policy = VPT360(real)
    valid = policy.weights.meta["valid_mae_deg"]
    assert error_deg(policy, real, "valid") == pytest.approx(valid, abs=0.01)
    assert error_deg(policy, real, "test") == pytest.approx(8.723, abs=0.005)
