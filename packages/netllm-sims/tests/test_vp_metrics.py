import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from netllm_sims.vp import geometry, metrics
from scipy.spatial.transform import Rotation

TILES = (metrics.tile_hit_rate, metrics.tile_f_score, metrics.tile_iou)
ALL = [
    metrics.mae_deg,
    metrics.rmse_deg,
    metrics.rmse_unwrapped_deg,
    metrics.great_circle_deg,
    *TILES,
]
degrees = arrays(float, (2, 4, 3), elements=st.floats(-180, 179.99))


def viewports(*rows):
    return np.array(rows, dtype=float)[None]


def test_errors_by_hand_around_the_circle():
    predicted, future = viewports([0, 10, 179], [0, 0, 0]), viewports([0, 4, -179], [3, 0, 0])
    assert metrics.mae_deg(predicted, future) == pytest.approx([(6 + 2 + 3) / 6])
    assert metrics.mae_deg(predicted, future, per_step=True)[0] == pytest.approx([8 / 3, 1])
    assert metrics.rmse_deg(predicted, future) == pytest.approx([np.sqrt((36 + 4 + 9) / 6)])
    unwrapped = np.sqrt((36 + 358**2 + 9) / 6)
    assert metrics.rmse_unwrapped_deg(predicted, future) == pytest.approx([unwrapped])


def test_an_answer_that_winds_itself_up_errs_as_in_the_reference():
    # min(|d|, |d + 360|, |d - 360|) with d = 800
    assert metrics.mae_deg(viewports([0, 0, 800]), viewports([0, 0, 0])) == pytest.approx([440 / 3])


@given(degrees, degrees)
def test_wrapped_errors_are_those_of_the_wrapped_difference(predicted, future):
    wanted = np.abs(geometry.wrap_deg(predicted - future)).mean(axis=(1, 2))
    np.testing.assert_allclose(metrics.mae_deg(predicted, future), wanted, atol=1e-9)


@given(degrees, degrees)
def test_great_circles_are_the_angles_between_scipys_directions(predicted, future):
    ahead = [
        Rotation.from_euler("ZXY", v.reshape(-1, 3), degrees=True).apply([0, 0, 1])
        for v in (predicted, future)
    ]
    cosine = np.clip((ahead[0] * ahead[1]).sum(axis=1), -1, 1)
    got = metrics.great_circle_deg(predicted, future, per_step=True)
    np.testing.assert_allclose(np.cos(np.deg2rad(got.ravel())), cosine, atol=1e-9)


@given(degrees, degrees)
def test_the_mean_over_steps_is_the_whole(predicted, future):
    for metric in (metrics.mae_deg, metrics.great_circle_deg, *TILES):
        steps = metric(predicted, future, per_step=True)
        assert steps.shape == (2, 4)
        np.testing.assert_allclose(steps.mean(axis=1), metric(predicted, future), atol=1e-9)


@given(degrees)
def test_the_truth_is_without_error_and_hits_every_tile(future):
    for metric in ALL:
        wanted = 1.0 if metric in TILES else 0.0
        np.testing.assert_allclose(metric(future, future), wanted, atol=1e-9)


def test_tiles_ahead_are_those_counted_by_hand():
    # 30° tiles: centres at yaw and pitch ±15, ±45, …; a view of 64° x 64° has x/z and y/z up to
    # 0.625: the four at ±15 (0.27, 0.28) are in, those at 45 (1.0) are not
    seen = metrics.visible_tiles(np.zeros((1, 3)), fov_deg=(64.0, 64.0), tiles=(6, 12))
    grid = seen.reshape(6, 12)
    assert grid.sum() == 4
    assert grid[2:4, 5:7].all()


def test_tiles_turn_and_tilt_with_the_head():
    ahead = metrics.visible_tiles(np.zeros(3), fov_deg=(64.0, 40.0), tiles=(6, 12)).reshape(6, 12)
    right = metrics.visible_tiles(
        np.array([0.0, 0.0, 90.0]), fov_deg=(64.0, 40.0), tiles=(6, 12)
    ).reshape(6, 12)
    np.testing.assert_array_equal(np.roll(ahead, 3, axis=1), right)
    # on its side, the wide view is high
    tilted = metrics.visible_tiles(np.array([90.0, 0.0, 0.0]), fov_deg=(150.0, 40.0), tiles=(6, 12))
    rows, columns = np.nonzero(tilted.reshape(6, 12))
    assert set(columns) == {5, 6}
    assert len(set(rows)) > 2


def test_tile_scores_by_hand():
    # 64° x 64° sees 2 x 2 tiles of 30°; turned by 30° it sees the next column instead of one
    predicted, future = viewports([0, 0, 30]), viewports([0, 0, 0])
    wide = {"fov_deg": (64.0, 64.0)}
    assert metrics.tile_hit_rate(predicted, future, **wide) == pytest.approx([0.5])
    assert metrics.tile_f_score(predicted, future, **wide) == pytest.approx([4 / 8])
    assert metrics.tile_iou(predicted, future, **wide) == pytest.approx([2 / 6])


@given(degrees, degrees)
def test_the_f_score_is_the_harmonic_mean_of_hit_rate_and_precision(predicted, future):
    wide = {"per_step": True, "fov_deg": (110.0, 90.0)}
    recall = metrics.tile_hit_rate(predicted, future, **wide)
    precision = metrics.tile_hit_rate(future, predicted, **wide)
    both = np.maximum(recall + precision, 1e-9)
    np.testing.assert_allclose(
        metrics.tile_f_score(predicted, future, **wide), 2 * recall * precision / both, atol=1e-9
    )


def test_where_no_tile_is_in_view_none_is_missed():
    # a field of 20° that looks at the corner of four 30° tiles sees no centre
    corner, centre = viewports([0, 0, 0]), viewports([0, 15, 15])
    narrow = {"fov_deg": (20.0, 20.0)}
    for metric in TILES:
        assert metric(corner, corner, **narrow) == pytest.approx([1.0])
        assert metric(corner, centre, **narrow) == pytest.approx([0.0])
    assert metrics.tile_hit_rate(centre, corner, **narrow) == pytest.approx([1.0])
    assert metrics.tile_iou(centre, corner, **narrow) == pytest.approx([0.0])


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("metric", ALL)
def test_other_shapes_are_errors(metric):
    with pytest.raises(ValueError, match=r"must both be \(window, horizon, 3\), got"):
        metric(np.zeros((2, 20, 3)), np.zeros((2, 19, 3)))


def test_a_field_of_view_of_180_degrees_is_an_error():
    with pytest.raises(ValueError, match=r"two angles in \(0, 180\)"):
        metrics.visible_tiles(np.zeros((1, 3)), fov_deg=(180.0, 90.0), tiles=(6, 12))
