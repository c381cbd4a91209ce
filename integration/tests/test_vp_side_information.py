"""What a viewport model sees beside the history, in training and as a policy."""

import netllm
import numpy as np
import pytest
from netllm.vp.side_information import SideRead
from netllm.vp.windows import Windows
from netllm_sims.vp import setting
from netllm_sims.vp.geometry import turned


def looking_at(*yaws, points=30):
    """Viewers who keep looking at these yaws: (1, viewer, point, 3)."""
    crowd_deg = np.zeros((1, len(yaws), points, 3))
    crowd_deg[..., 2] = np.array(yaws)[None, :, None]
    return crowd_deg


def fields_of(*yaws, known=None):
    known = [True] * len(yaws) if known is None else known
    return {"crowd_deg": looking_at(*yaws), "crowd_known": np.array([known])}


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
