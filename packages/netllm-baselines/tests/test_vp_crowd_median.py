"""The rule that follows earlier viewers of the same video."""

import numpy as np
import pytest
from netllm_baselines.vp import CrowdMedian
from netllm_sims.vp import mae_deg, rollout, setting


def observation(*viewers, known=None, yaw=0.0):
    """One window: the viewer at `yaw`, and viewers as (yaw, degrees per point)."""
    steps = np.arange(-9, 21)
    crowd = np.zeros((1, len(viewers), 30, 3))
    for number, (place, slope) in enumerate(viewers):
        crowd[0, number, :, 2] = place + slope * steps * (steps > 0)
    known = [True] * len(viewers) if known is None else known
    history = np.zeros((1, 10, 3))
    history[..., 2] = yaw
    wrapped = (crowd + 180) % 360 - 180
    return {"viewport_deg": history, "crowd_deg": wrapped, "crowd_known": np.array([known])}


@pytest.fixture
def rule():
    return CrowdMedian(setting("synthetic", crowd=12))


def test_it_turns_as_the_median_of_those_nearby_and_less_far(rule):
    slopes = (1.0, 2.0, 3.0)
    answer = rule.act(observation(*((0.0, slope) for slope in slopes)))
    np.testing.assert_allclose(answer[0, :, 2], 0.8 * 2.0 * np.arange(1, 21), atol=1e-9)


def test_of_an_even_number_it_takes_the_middle_of_the_two(rule):
    answer = rule.act(observation((0.0, 1.0), (0.0, 2.0)))
    np.testing.assert_allclose(answer[0, -1, 2], 0.8 * 1.5 * 20, atol=1e-9)


def test_those_who_look_elsewhere_are_left_out(rule):
    near, far = [(float(k), 1.0) for k in range(10)], [(170.0, -4.0)] * 2
    answer = rule.act(observation(*near, *far))
    np.testing.assert_allclose(answer[0, -1, 2], 0.8 * 20, atol=1e-9)


def test_it_holds_where_nobody_is_known(rule):
    answer = rule.act(observation((0.0, 1.0), known=[False], yaw=33.0))
    np.testing.assert_array_equal(answer[0, :, 2], np.full(20, 33.0))


def test_crossing_180_degrees_is_nothing_special(rule):
    there = rule.act(observation((179.0, 1.0), yaw=179.0))[0, :, 2]
    np.testing.assert_allclose((there - 179) % 360, 0.8 * np.arange(1, 21), atol=1e-9)


def test_it_is_better_than_holding_where_viewers_follow_what_is_shown():
    config = setting("synthetic", crowd=8)
    clips = config.clips("test")
    held = [np.repeat(clip.history_deg[:, -1:], 20, axis=1) for clip in clips]
    done = rollout(CrowdMedian(config), config, clips).predicted_deg

    def error(answers):
        pairs = zip(answers, clips, strict=True)
        return np.mean([mae_deg(answer, clip.future_deg).mean() for answer, clip in pairs])

    assert error(done) < 0.8 * error(held)


def test_a_setting_without_a_crowd_is_refused():
    with pytest.raises(ValueError, match="--setting crowd"):
        CrowdMedian(setting("synthetic"))
