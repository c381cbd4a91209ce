"""What a viewport model sees beside the history, in training and as a policy."""

import netllm
import numpy as np
import pytest
from netllm.vp.side_information import ALIKE, SideFields, SideRead, nearest
from netllm.vp.windows import Windows
from netllm_sims.vp import setting
from netllm_sims.vp.geometry import mirrored, turned


def looking_at(*yaws, points=30):
    """Viewers who keep looking at these yaws: (1, viewer, point, 3)."""
    crowd_deg = np.zeros((1, len(yaws), points, 3))
    crowd_deg[..., 2] = np.array(yaws)[None, :, None]
    return crowd_deg


def fields_of(*yaws, known=None):
    known = [True] * len(yaws) if known is None else known
    return {"crowd_deg": looking_at(*yaws), "crowd_known": np.array([known])}


def test_the_viewers_most_alike_come_first_and_those_not_known_last():
    history_deg = np.zeros((1, 10, 3))
    shown = nearest(history_deg, fields_of(90, 1, -170, 20, known=[True, False, True, True]), 4)
    assert shown["crowd_deg"][0, :3, 0, 2].tolist() == [20, 90, -170]
    assert shown["crowd_known"].tolist() == [[True, True, True, False]]


def test_nearness_goes_around_the_circle_and_looks_at_the_last_second_alone():
    history_deg = np.zeros((1, 10, 3))
    history_deg[..., 2] = 179
    fields = fields_of(150, -179)
    fields["crowd_deg"][0, 1, : 10 - ALIKE, 2] = 0  # long ago it looked elsewhere
    shown = nearest(history_deg, fields, 1)
    assert shown["crowd_deg"][0, 0, -1, 2] == -179


@pytest.mark.parametrize("viewers", [3, 6])
def test_there_are_as_many_viewers_as_a_model_reads(viewers):
    shown = nearest(np.zeros((1, 10, 3)), fields_of(0, 1, 2, 3), viewers)
    assert shown["crowd_deg"].shape == (1, viewers, 30, 3)
    assert shown["crowd_known"].sum() == min(viewers, 4)
    alone = nearest(np.zeros((2, 10, 3)), {}, viewers)
    assert alone["crowd_known"].shape == (2, viewers)
    assert not alone["crowd_known"].any()


def test_what_a_setting_does_not_show_is_not_known_and_its_last_points_are_held():
    reads = SideRead(memory=5, viewers=2, horizon=20)
    seen_deg = np.zeros((1, 10, 3))
    observation = {
        "memory_deg": np.full((1, 3, 3), 7.0),
        "memory_known": np.array([[False, True, True]]),
        **fields_of(4.0),
        "time_s": np.zeros(1),
    }
    fields = reads.fitted(reads.of(observation, seen_deg, 0.0), np.zeros((1, 30, 3)))
    assert fields["memory_known"].tolist() == [[False, False, False, True, True]]
    assert fields["crowd_deg"].shape == (1, 2, 50, 3)
    assert (fields["crowd_deg"][0, 0, :, 2] == 4.0).all()
    nothing = reads.fitted(reads.of({}, seen_deg, 0.0), seen_deg)
    assert not nothing["memory_known"].any()
    assert not nothing["crowd_known"].any()


def test_a_model_without_side_information_is_shown_none():
    reads = SideRead(memory=0, viewers=0, horizon=0)
    seen_deg = np.zeros((1, 10, 3))
    assert reads.fitted(reads.of(fields_of(1.0), seen_deg, 0.0), seen_deg) == {}


def test_side_information_is_turned_with_the_world():
    reads = SideRead(memory=0, viewers=1, horizon=20)
    shown = reads.of(fields_of(10.0), np.zeros((1, 10, 3)), 90.0)
    np.testing.assert_allclose(
        shown["crowd_deg"], turned(looking_at(10.0), 90.0), rtol=0, atol=1e-9
    )


@pytest.fixture(scope="module")
def config():
    return setting("synthetic", crowd=8, memory=20, train_stride=15)


def test_mirrored_windows_have_mirrored_side_information(config):
    clips = config.clips("train")[:3]
    side = SideFields(clips, front_deg=20.0, seed=0)
    windows = sum(len(clip) for clip in clips)
    rows = np.array([0, 5, windows - 1])
    plain = side(rows)
    flipped = SideFields(clips, front_deg=20.0, seed=0)(np.concatenate([rows, rows + windows]))
    np.testing.assert_array_equal(flipped["memory_known"][3:], plain["memory_known"])
    known = plain["memory_known"]
    np.testing.assert_allclose(
        flipped["memory_deg"][3:][known], mirrored(plain["memory_deg"], 20.0)[known], atol=1e-6
    )


def test_a_window_hides_the_same_viewers_whatever_it_is_read_with(config):
    windows = Windows(config.clips("train"), seed=3)
    some, other = windows.batch([4, 700, 9]), windows.batch([9, 4])
    for name, values in other.observations.items():
        assert (values == some.observations[name][[2, 0]]).all(), name
    again = Windows(config.clips("train"), seed=4).batch(range(200))
    shown = windows.batch(range(200)).observations["crowd_known"].sum(1)
    assert (shown != again.observations["crowd_known"].sum(1)).any()
    assert shown.min() == 0
    assert shown.max() >= 6


def test_a_model_follows_the_crowd_that_it_was_adapted_to(tmp_path):
    """On synthetic viewers, who all turn to what is to be seen, the crowd halves what is left."""
    own = {"set": {"train_stride": 5, "crowd": 8}, "setting": "synthetic"}
    run = tmp_path / "run"
    netllm.adapt("vp", out=run, backbone="tiny-random", steps=100, batch=64, validation=6, **own)
    report = netllm.test("vp", checkpoint=run, policy=["hold-last"], episodes=12, **own)
    means = {one.label: one.metrics["mae_deg"].mean for one in report.results}
    assert means["run"] < 0.7 * means["hold-last"]
