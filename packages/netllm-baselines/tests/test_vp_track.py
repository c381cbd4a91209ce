"""TRACK: policy, saliency maps and training, on few synthetic windows."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from netllm_baselines.vp.saliency import COLUMNS, ROWS, Maps, saliency
from netllm_sims.vp import Setting, mae_deg, rollout, setting, wrap_deg
from netllm_sims.vp.geometry import to_yaw_pitch

torch = pytest.importorskip("torch", reason="TRACK needs the extra `learned`")

from netllm_baselines.vp import TRACK, HoldLast, TRACKSaliency  # noqa: E402
from netllm_baselines.vp._training_windows import Windows  # noqa: E402
from netllm_baselines.vp.track_network import network  # noqa: E402
from netllm_baselines.vp.track_training import train_track  # noqa: E402
from netllm_baselines.vp.training_recipe import Recipe  # noqa: E402
from netllm_baselines.vp.weights_file import Weights, shipped  # noqa: E402

SMALL = Recipe(hidden=16, epochs=2, batch=64, rate=2e-2, train_stride=0, average=0.5)


@pytest.fixture(scope="module")
def synthetic() -> Setting:
    return setting("synthetic")


@pytest.fixture(scope="module")
def short() -> Setting:
    """A short horizon and few windows, for trainings of a second or two."""
    return setting("synthetic", horizon=5, train_stride=60, stride=60)


def drawn(*, saliency: bool, horizon: int = 20, seed: int = 0) -> Weights:
    """Random weights that no one trained."""
    generator = torch.Generator().manual_seed(seed)
    net = network(hidden=8, horizon=horizon, saliency=saliency, generator=generator)
    arrays = {name: value.half().numpy() for name, value in net.state_dict().items()}
    shape = {"history": 10, "horizon": horizon, "rate_hz": 5.0, "hidden": 8, "saliency": saliency}
    return Weights(arrays=arrays, meta={"kind": "track", **shape})


def observed(place: Setting, part: str, count: int) -> dict[str, np.ndarray]:
    """The first windows of the first clip."""
    clip = place.clips(part)[0]
    return {
        "viewport_deg": clip.history_deg[:count],
        "video": np.repeat([clip.video], count),
        "time_s": clip.time_s[:count],
    }


def error_deg(policy, place: Setting, part: str) -> float:
    clips = place.clips(part)
    predicted = np.concatenate(rollout(policy, place, clips).predicted_deg)
    return float(mae_deg(predicted, np.concatenate([clip.future_deg for clip in clips])).mean())


def test_a_short_training_beats_holding_and_repeats(short, tmp_path):
    first, again = (
        train_track(short, out=tmp_path / name, seed=3, recipe=SMALL)
        for name in ("first.npz", "again.npz")
    )
    trained = TRACK(short, weights=first)
    assert error_deg(trained, short, "valid") < error_deg(HoldLast(short), short, "valid")
    for name, array in trained.weights.arrays.items():
        assert np.array_equal(array, TRACK(short, weights=again).weights.arrays[name])


def test_a_training_with_saliency_does_what_its_file_says(short, tmp_path):
    path = train_track(short, out=tmp_path / "s.npz", saliency=True, recipe=SMALL, epochs=1)
    policy = TRACKSaliency(short, weights=path)
    assert policy.weights.meta["saliency"] is True
    valid = policy.weights.meta["valid_mae_deg"]
    assert error_deg(policy, short, "valid") == pytest.approx(valid, abs=1e-3)


def test_the_decoder_starts_from_the_last_observed_point(synthetic):
    """With a silent output layer nothing moves; the future is not among the inputs at all."""
    weights = drawn(saliency=False)
    for name in ("out.weight", "out.bias"):
        weights.arrays[name][:] = 0
    seen = observed(synthetic, "test", 4)
    held = HoldLast(synthetic).act(seen)
    assert np.allclose(TRACK(synthetic, weights=weights).act(seen), held, atol=1e-4)


def test_the_fusing_state_advances():
    """With positions hidden from it, only its own state can tell one step from the next."""
    net = network(hidden=8, horizon=4, saliency=False, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        net.fuse_decoder.weight_ih.zero_()
        turns = net(torch.zeros(1, 10, 3)).diff(dim=1)[0]
    assert (turns[1] - turns[0]).abs().max() > 1e-4


def test_a_yaw_of_181_degrees_is_one_of_minus_179(synthetic):
    rng = np.random.default_rng(0)
    unwrapped = rng.normal(0, 4, (20, 10, 3)).cumsum(axis=1) + np.array([0, 0, 178])
    policy = TRACK(synthetic, weights=drawn(saliency=False))
    apart = wrap_deg(
        policy.act({"viewport_deg": unwrapped}) - policy.act({"viewport_deg": wrap_deg(unwrapped)})
    )
    assert np.abs(apart).max() < 1e-3


@pytest.mark.parametrize("reads", [False, True])
def test_a_longer_horizon_rolls_on_from_its_own_answers(reads):
    place = setting("synthetic", horizon=8)
    weights = drawn(saliency=reads, horizon=5)
    seen = observed(place, "test", 3)
    once = TRACK(setting("synthetic", horizon=5), saliency=reads, weights=weights)
    first = once.act(seen)
    later = {"viewport_deg": np.concatenate([seen["viewport_deg"], first], axis=1)}
    second = once.act(seen | later | {"time_s": seen["time_s"] + 1.0})
    expected = np.concatenate([first, second[:, :3]], axis=1)
    got = TRACK(place, saliency=reads, weights=weights).act(seen)
    assert np.allclose(got, expected, atol=1e-4)


def test_what_a_frame_shows_matters_only_with_saliency(synthetic):
    seen = observed(synthetic, "test", 2)
    other = seen | {"video": np.repeat([synthetic.clips("valid")[0].video], 2)}
    for reads in (False, True):
        policy = TRACK(synthetic, saliency=reads, weights=drawn(saliency=reads))
        assert np.allclose(policy.act(seen), policy.act(other), atol=1e-4) is not reads


def test_mirror_images_mirror_head_and_map(synthetic):
    maps = Maps(synthetic, before=10, after=20)
    windows = Windows.of(synthetic, "valid", maps=maps, mirror=True)
    rows = torch.arange(2)
    plain = windows.at(rows, mirrored=torch.tensor([False, False]))
    mixed = windows.at(rows, mirrored=torch.tensor([False, True]))
    for one, other in zip(plain, mixed, strict=True):
        assert torch.equal(one[0], other[0])
    assert torch.equal(plain[0][1] * torch.tensor([-1.0, 1.0, -1.0]), mixed[0][1])
    assert torch.equal(plain[2][1].flip(-1), mixed[2][1])


def test_maps_of_a_turned_world_are_turned(synthetic):
    seen = observed(synthetic, "test", 3)
    plain, turned = (Maps(synthetic, before=1, after=0, turn_deg=turn) for turn in (0, 90))
    for maps in (plain, turned):
        maps.numbers(seen["video"], seen["time_s"])
    quarter = COLUMNS // 4
    assert np.allclose(np.roll(plain.known(), quarter, axis=2), turned.known(), atol=1e-5)


def test_a_bright_spot_stands_out_where_it_is():
    frame = np.full((64, 128, 3), 40, np.uint8)
    frame[20:24, 100:104] = (250, 220, 30)
    found = saliency(frame)
    assert np.unravel_index(found.argmax(), found.shape) == (5, 25)
    assert found.mean() == pytest.approx(0, abs=1e-9)
    assert found.std() == pytest.approx(1)


def test_an_even_frame_has_nothing_that_stands_out():
    assert np.array_equal(saliency(np.full((64, 128, 3), 77, np.uint8)), np.zeros((ROWS, COLUMNS)))


def test_a_frame_smaller_than_the_map_is_refused():
    with pytest.raises(ValueError, match=r"at least 16 x 32 pixels, got 8 x 32"):
        saliency(np.zeros((8, 32, 3), np.uint8))


def test_heads_look_where_maps_stand_out(synthetic):
    """Users turn to points of interest, and the maps show these where they are."""
    clips = synthetic.clips("valid")
    at_gaze = []
    maps = Maps(synthetic, before=1, after=0)
    for clip in clips[:5]:
        numbers = maps.numbers(np.repeat([clip.video], len(clip.time_s)), clip.time_s)
        yaw, pitch = np.moveaxis(to_yaw_pitch(clip.history_deg[:, -1]), -1, 0)
        row = np.clip((90 - pitch) / 180 * ROWS, 0, ROWS - 1).astype(int)
        column = ((yaw + 180) / 360 * COLUMNS).astype(int) % COLUMNS
        at_gaze.append(maps.known()[numbers[:, 0], row, column])
    assert np.concatenate(at_gaze).mean() > 0.5  # standard deviations above the mean


def test_saliency_without_frames_is_refused(tmp_path):
    place = setting("synthetic")
    seen = observed(place, "test", 1)
    rows = [f"{t / 5},0,0,{t % 90}" for t in range(120)]
    for part in ("train", "valid"):
        folder = tmp_path / part / f"{part}-film"
        folder.mkdir(parents=True)
        (folder / "user1.csv").write_text("time,roll,pitch,yaw\n" + "\n".join(rows))
    own = setting("default", trajectories=tmp_path)
    policy = TRACKSaliency(own, weights=drawn(saliency=True))
    with pytest.raises(ValueError, match=r"needs the frames of .*has none.*frames=FOLDER"):
        policy.act(seen)
    with pytest.raises(ValueError, match=r"needs the frames of .*has none"):
        train_track(own, out=tmp_path / "t.npz", saliency=True, recipe=SMALL)


def test_weights_of_the_other_saliency_are_refused(synthetic):
    with pytest.raises(ValueError, match=r"trained without saliency.*pass saliency=False"):
        TRACKSaliency(synthetic, weights=drawn(saliency=False))
    with pytest.raises(ValueError, match=r"trained with saliency.*pass saliency=True"):
        TRACK(synthetic, weights=drawn(saliency=True))


def test_where_nothing_is_shipped_the_error_says_how_to_train(synthetic):
    recorded = replace(synthetic, synthetic=False)
    with pytest.raises(FileNotFoundError, match=r"vp track.*--train saliency=true"):
        TRACKSaliency(recorded)


@pytest.mark.parametrize("name", ["track-default", "track-synthetic", "track-saliency-synthetic"])
def test_the_shipped_weights_say_how_they_were_made(name):
    path = shipped(name)
    meta = Weights.load(path, kind="track", train="").meta
    assert path.stat().st_size < 3_000_000
    assert meta["saliency"] is ("saliency" in name)
    assert meta["setting"] == name.split("-")[-1]
    assert meta["command"].startswith("netllm train-baseline vp track ")
    assert {"seed", "recipe", "valid_mae_deg", "versions"} <= meta.keys()


def test_the_shipped_weights_reach_their_validation_figures(synthetic):
    held = error_deg(HoldLast(synthetic), synthetic, "valid")
    blind, seeing = TRACK(synthetic), TRACKSaliency(synthetic)
    errors = [error_deg(policy, synthetic, "valid") for policy in (blind, seeing)]
    for policy, error in zip((blind, seeing), errors, strict=True):
        assert error == pytest.approx(policy.weights.meta["valid_mae_deg"], abs=0.01)
    assert errors[1] < 0.9 * errors[0] < 0.9 * held


def test_the_shipped_weights_reach_their_validation_figure_on_real_data():
    data = os.environ.get("NETLLM_DATA")
    if not data or not Path(data, "vp").is_dir():
        pytest.skip("NETLLM_DATA names no folder with the real head movement")
    real = setting("default", data=data)
    policy = TRACK(real)
    reached = error_deg(policy, real, "valid")
    assert reached == pytest.approx(policy.weights.meta["valid_mae_deg"], abs=0.01)
    assert reached < error_deg(HoldLast(real), real, "valid")
