"""Laws of angles, directions and rotations; scipy's `Rotation` is the other implementation."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from netllm_sims.vp import geometry, setting, train_valid_test
from scipy.spatial.transform import Rotation


@pytest.fixture
def vp_data():
    folder = os.environ.get("NETLLM_DATA")
    if not folder or not (Path(folder) / "vp" / "Jin2022.zip").is_file():
        pytest.skip("NETLLM_DATA names no folder with real head movement")
    return Path(folder)


angle = st.floats(-2000, 2000)
viewports = st.tuples(st.floats(-180, 179.99), st.floats(-89, 89), st.floats(-180, 179.99)).map(
    np.array
)
directions = st.tuples(st.floats(-180, 179.99), st.floats(-89, 89)).map(np.array)


@given(arrays(float, 20, elements=angle))
def test_wrapping_keeps_the_angle_and_lands_within_the_circle(angles):
    wrapped = geometry.wrap_deg(angles)
    assert (wrapped >= -180).all()
    assert (wrapped < 180).all()
    turns = (angles - wrapped) / 360
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)


def test_wrapping_keeps_every_bit_of_what_is_already_wrapped():
    angles = np.array([-180.0, 179.999176, 0.1, -1e-17])
    assert geometry.wrap_deg(angles).tobytes() == angles.tobytes()
    np.testing.assert_array_equal(
        geometry.wrap_deg(np.array([180.0, 540, -180 - 1e-14])), [-180, -180, -180]
    )


@given(arrays(float, (15, 3), elements=st.floats(-170, 170)))
def test_unwrapping_undoes_wrapping_of_any_slow_path(steps):
    path = np.cumsum(steps, axis=0)
    path -= path[0] - geometry.wrap_deg(path[0])
    np.testing.assert_allclose(geometry.unwrap_deg(geometry.wrap_deg(path)), path, atol=1e-6)


@given(viewports)
def test_directions_and_matrices_are_those_of_scipy(viewport):
    rotation = Rotation.from_euler("ZXY", viewport, degrees=True)
    np.testing.assert_allclose(
        geometry.rotation_matrices(viewport), rotation.as_matrix(), atol=1e-12
    )
    np.testing.assert_allclose(geometry.to_vectors(viewport), rotation.apply([0, 0, 1]), atol=1e-12)


@given(viewports)
def test_quaternions_come_back_as_the_same_viewport(viewport):
    quaternion = geometry.to_quaternions(viewport)
    back = geometry.from_quaternions(quaternion)
    np.testing.assert_allclose(geometry.wrap_deg(back - viewport), 0, atol=1e-6)
    other = geometry.from_quaternions(-quaternion)
    np.testing.assert_allclose(geometry.wrap_deg(other - back), 0, atol=1e-9)


@given(directions)
def test_yaw_and_elevation_come_back_as_the_same(yaw_pitch):
    back = geometry.to_yaw_pitch(geometry.from_yaw_pitch(yaw_pitch))
    np.testing.assert_allclose(geometry.wrap_deg(back - yaw_pitch), 0, atol=1e-6)


@given(directions)
def test_an_untilted_head_has_its_right_level(yaw_pitch):
    matrix = geometry.rotation_matrices(geometry.from_yaw_pitch(yaw_pitch))
    assert matrix[1, 0] == pytest.approx(0, abs=1e-9)


@given(viewports)
def test_a_vector_of_any_length_gives_the_viewport_that_looks_along_it(viewport):
    vector = geometry.to_vectors(viewport)
    again = geometry.to_vectors(geometry.from_vectors(3 * vector))
    np.testing.assert_allclose(again, vector, atol=1e-9)


def test_axes_are_as_documented():
    look = geometry.to_vectors(np.array([[0.0, 0, 0], [0, 0, 90], [0, 90, 0], [0, 0, -180]]))
    ahead, right, up = [0, 0, 1], [1, 0, 0], [0, -1, 0]
    np.testing.assert_allclose(look, [ahead, right, up, [0, 0, -1]], atol=1e-12)


def test_looking_up_while_turned_aside_is_in_the_roll_column():
    np.testing.assert_allclose(
        geometry.from_yaw_pitch(np.array([90.0, 30.0])), [-30, 0, 90], atol=1e-9
    )


def test_the_poles_warn_of_nothing():
    pole = np.array([10.0, 90.0, 20.0])
    viewport = geometry.from_quaternions(geometry.to_quaternions(pole))
    np.testing.assert_allclose(geometry.to_vectors(viewport), geometry.to_vectors(pole), atol=1e-6)


def test_the_published_columns_are_rotations_of_this_sequence(vp_data):
    """Read so, heads look up and down alike wherever they face; the pitch column does not."""
    seen = np.concatenate(
        [
            clip.history_deg.reshape(-1, 3)
            for clip in setting("default", data=vp_data).clips("train")
        ]
    )
    yaw, elevation = geometry.to_yaw_pitch(seen).T
    aside = np.abs(np.abs(yaw) - 90) < 45
    assert 0.9 < elevation[aside].std() / elevation[~aside].std() < 1.1
    assert seen[aside, 1].std() / seen[~aside, 1].std() < 0.7


@given(viewports, st.floats(-400, 400))
def test_a_turned_world_is_the_rotation_about_the_vertical(viewport, angle_deg):
    turned = geometry.turned(viewport, angle_deg)
    turn = Rotation.from_euler("Y", angle_deg, degrees=True).as_matrix()
    np.testing.assert_allclose(
        geometry.rotation_matrices(turned), turn @ geometry.rotation_matrices(viewport), atol=1e-9
    )


def test_no_turn_and_half_a_turn_keep_every_bit_that_they_can():
    viewports_deg = np.array([[[10.1, -20.2, 30.3], [1.0, 2.0, -170.0]]])
    assert geometry.turned(viewports_deg, 0).tobytes() == viewports_deg.tobytes()
    half = geometry.turned(viewports_deg, 180)
    np.testing.assert_array_equal(half, [[[-10.1, 20.2, 30.3 - 180], [-1.0, -2.0, 10.0]]])


@given(viewports)
def test_the_mirror_swaps_left_and_right(viewport):
    swap = np.diag([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(
        geometry.rotation_matrices(geometry.mirrored(viewport)),
        swap @ geometry.rotation_matrices(viewport) @ swap,
        atol=1e-9,
    )


@given(directions, st.floats(-180, 180))
def test_a_mirror_along_the_front_keeps_how_far_from_it_one_looks(direction, front_deg):
    viewport = geometry.from_yaw_pitch(direction)
    seen = geometry.to_yaw_pitch(geometry.mirrored(viewport, front_deg))
    missed = np.array(seen[0] - (2 * front_deg - direction[0]))
    assert geometry.wrap_deg(missed) == pytest.approx(0, abs=1e-6)
    assert seen[1] == pytest.approx(direction[1], abs=1e-6)


@pytest.mark.parametrize("name", ["Jin2022", "Wu2017"])
def test_viewers_of_the_published_data_come_back_to_the_stated_front(name, vp_data):
    place = setting("default" if name == "Jin2022" else "unseen-dataset", data=vp_data)
    reading = train_valid_test.Reading(
        root=train_valid_test.published_root(vp_data, name), rate_hz=5.0, gaps="keep"
    )
    yaw_deg = np.concatenate(
        [one.viewports_deg[:, 2] for one in train_valid_test.published(reading, name, "train")]
    )
    mean = np.exp(1j * np.deg2rad(yaw_deg)).mean()
    assert abs(mean) > 0.3
    assert abs(geometry.wrap_deg(np.array(np.rad2deg(np.angle(mean)) - place.front_deg))) < 20
