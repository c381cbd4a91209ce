import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from netllm_sims.vp import geometry, resample


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 5.0, 7.3, 50.0]))
def test_points_that_are_asked_for_again_keep_their_orientation(seed, rate_hz):
    rng = np.random.default_rng(seed)
    times_s = np.arange(20) / rate_hz
    viewports = rng.uniform([-180, -80, -180], [180, 80, 180], (20, 3))
    again_s, same = resample(times_s, viewports, rate_hz=rate_hz)
    np.testing.assert_allclose(again_s, times_s, atol=1e-9)
    np.testing.assert_allclose(
        geometry.rotation_matrices(same), geometry.rotation_matrices(viewports), atol=1e-6
    )


@given(st.integers(0, 2**32 - 1))
def test_orientations_between_two_points_lie_on_the_turn_between_them(seed):
    rng = np.random.default_rng(seed)
    times_s = np.cumsum(rng.uniform(0.05, 0.9, 12))
    viewports = rng.uniform([-180, -80, -180], [180, 80, 180], (12, 3))
    dense_s, dense = resample(times_s, viewports, rate_hz=40.0)
    assert dense_s[-1] <= times_s[-1] < dense_s[-1] + 1 / 40 + 1e-9
    frames, turns = (geometry.rotations(v) for v in (dense, viewports))
    before = np.clip(np.searchsorted(times_s, dense_s, side="right") - 1, 0, len(times_s) - 2)
    part = (turns[before].inv() * frames).magnitude()
    whole = (turns[before].inv() * turns[before + 1]).magnitude()
    share = (dense_s - times_s[before]) / np.diff(times_s)[before]
    np.testing.assert_allclose(part, share * whole, atol=1e-6)


def test_yaw_turns_the_short_way_over_the_back():
    viewports = np.array([[0, 0, 170.0], [0, 0, -170.0]])
    _, between = resample(np.array([0.0, 1.0]), viewports, rate_hz=4.0)
    np.testing.assert_allclose(
        geometry.wrap_deg(between[:, 2] - [170, 175, 180, -175, -170]), 0, atol=1e-9
    )


def test_a_single_point_stays_and_a_rate_must_be_positive():
    times_s, viewports = resample(np.array([3.0]), np.zeros((1, 3)), rate_hz=5.0)
    assert times_s.tolist() == [3.0]
    assert viewports.shape == (1, 3)
    with pytest.raises(ValueError, match="`rate_hz` must be > 0"):
        resample(np.array([0.0, 1.0]), np.zeros((2, 3)), rate_hz=0.0)
