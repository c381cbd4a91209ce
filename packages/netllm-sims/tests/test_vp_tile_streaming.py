import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from netllm_sims.vp import fetched_by_margin, tile_hit_rate
from netllm_sims.vp.metrics import in_head_axes
from netllm_sims.vp.tile_streaming import _outside_deg

degrees = arrays(float, (2, 3, 3), elements=st.floats(-180, 179.99))
MARGINS = (0.0, 20.0, 45.0, 90.0, 180.0)


def ahead(*yaws):
    return np.array([[[0.0, 0.0, yaw]] for yaw in yaws])


def test_a_margin_fetches_the_ring_of_tiles_around_the_view():
    # 64° x 64° sees 2 x 2 of the 6 x 12 tiles. The border to the right has the normal (cos 32°, 0,
    # -sin 32°), so the next centre, yaw 45° and pitch 15°, lies asin(cos 15°·sin 13°) = 12.5°
    # beyond; yaw 15° and pitch 45° likewise asin(sin 45°·cos 32° - cos 45°·cos 15°·sin 32°) = 13.7°
    view = {"fov_deg": (64.0, 64.0)}
    fetched = fetched_by_margin(ahead(0), ahead(30), (0, 12, 14), **view)
    np.testing.assert_allclose(fetched.bits, [[4 / 72, 4 / 72, 12 / 72]])
    np.testing.assert_allclose(fetched.seen, [[0.5, 0.5, 1.0]])


@given(arrays(float, 3, elements=st.floats(-180, 179.99)))
def test_the_angle_outside_the_view_is_that_to_the_nearest_of_many_directions_in_it(turn):
    fov_deg, tiles = (110.0, 90.0), (6, 12)
    away = _outside_deg(in_head_axes(turn, tiles), fov_deg)
    wide, high = np.tan(np.deg2rad(fov_deg) / 2)
    grid = np.meshgrid(np.linspace(-wide, wide, 121), np.linspace(-high, high, 121), [1.0])
    view = np.stack([axis.ravel() for axis in grid])
    view /= np.linalg.norm(view, axis=0)
    nearest = np.rad2deg(np.arccos(np.clip(view.T @ in_head_axes(turn, tiles), -1, 1).max(axis=0)))
    # the grid is 1.4° wide
    np.testing.assert_allclose(away, nearest, atol=1.0)
    assert (away <= nearest + 1e-6).all()


def test_bits_follow_the_rates_of_the_tiles():
    rates = np.ones((6, 12))
    rates[2, 5] = 29  # one of the four tiles seen; 100 in all
    fetched = fetched_by_margin(ahead(0, 180), ahead(0, 0), (0,), fov_deg=(64, 64), rates=rates)
    np.testing.assert_allclose(fetched.bits, [[0.32], [0.04]])
    np.testing.assert_allclose(fetched.seen, [[1], [0]])


@settings(deadline=None)
@given(degrees, degrees)
def test_a_wider_margin_shows_and_costs_no_less_up_to_the_whole_frame(predicted, future):
    fetched = fetched_by_margin(predicted, future, MARGINS)
    for shares in fetched:
        assert (np.diff(shares, axis=1) >= -1e-12).all()
        np.testing.assert_allclose(shares[:, -1], 1)
    # without a margin it is the hit rate of the tables
    np.testing.assert_allclose(fetched.seen[:, 0], tile_hit_rate(predicted, future), atol=1e-12)


def test_many_windows_are_those_one_by_one():
    rng = np.random.default_rng(0)
    predicted, future = rng.uniform(-180, 180, (2, 300, 2, 3))
    whole = fetched_by_margin(predicted, future, MARGINS)
    for i in (0, 255, 256, 299):
        one = fetched_by_margin(predicted[i : i + 1], future[i : i + 1], MARGINS)
        np.testing.assert_allclose(whole.bits[i], one.bits[0])
        np.testing.assert_allclose(whole.seen[i], one.seen[0])


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"margins_deg": (0, -5)}, "`margins_deg` must be at least 0, got -5"),
        ({"rates": np.ones((6, 6))}, r"6 rows of 12 finite numbers.*got \(6, 6\)"),
        ({"rates": np.zeros((6, 12))}, "not all 0"),
        ({"rates": np.full((6, 12), -1.0)}, ">= 0"),
        ({"future_deg": ahead(0, 1)}, r"must both be \(window, horizon, 3\)"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, words):
    given = {"predicted_deg": ahead(0), "future_deg": ahead(0), "margins_deg": (0,)} | change
    with pytest.raises(ValueError, match=words):
        fetched_by_margin(**given)
