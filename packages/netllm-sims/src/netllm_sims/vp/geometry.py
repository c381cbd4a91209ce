"""Angles, directions and rotations of viewports.

A viewport is (roll, pitch, yaw) in degrees, on the last axis: the angles of scipy's `Rotation` in
the sequence 'ZXY', the convention of the published data. Axes: x to the right, y down, z ahead. So

    R = Rz(roll) · Rx(pitch) · Ry(yaw)

turns the head's axes into the world's, and the head looks along R·(0, 0, 1). With roll 0 and
yaw 0, pitch > 0 looks up; with roll and pitch 0, yaw > 0 looks to the right.

Mind that the roll is applied last: in this convention a head that is turned by 90° and looks up
has its elevation in the *roll* column. The published data are so indeed: read by all three columns
the elevation spreads by 15° and the tilt by 7° wherever the heads face, whereas the pitch column
alone spreads by 14° ahead and 8° at the sides. Hence the direction of a viewport is
`to_yaw_pitch`, not its last two columns; longitude and yaw column differ by 0.7° on average.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from warnings import catch_warnings, filterwarnings

import numpy as np
from jaxtyping import Float
from numpy import ndarray

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation


def wrap_deg(angles: Float[ndarray, "*any"]) -> Float[ndarray, "*any"]:
    """The same angles within [-180, 180); those already there keep every bit."""
    angles = np.asarray(angles, dtype=np.float64)
    inside = (angles >= -180) & (angles < 180)
    wrapped = np.mod(angles + 180, 360) - 180
    # rounding can put a hair below -180 at 180
    return np.where(inside, angles, np.where(wrapped >= 180, -180.0, wrapped))


def unwrap_deg(angles: Float[ndarray, "*any"], axis: int = -2) -> Float[ndarray, "*any"]:
    """The same angles without jumps of more than 180° along `axis`, that of time; starts alike."""
    unwrapped: ndarray = np.unwrap(np.asarray(angles, dtype=np.float64), period=360.0, axis=axis)
    return unwrapped


def to_vectors(viewports_deg: Float[ndarray, "*any 3"]) -> Float[ndarray, "*any 3"]:
    """Unit vectors (x right, y down, z ahead) along which the viewports look."""
    angles = np.deg2rad(viewports_deg)
    (sin_r, sin_p, sin_y), (cos_r, cos_p, cos_y) = (
        np.moveaxis(f(angles), -1, 0) for f in (np.sin, np.cos)
    )
    x, y, z = sin_y, -sin_p * cos_y, cos_p * cos_y
    return np.stack([cos_r * x - sin_r * y, sin_r * x + cos_r * y, z], axis=-1)


def rotation_matrices(viewports_deg: Float[ndarray, "*any 3"]) -> Float[ndarray, "*any 3 3"]:
    """The matrices R: columns are the head's right, down and ahead in the world's axes."""
    roll, pitch, yaw = np.moveaxis(np.deg2rad(viewports_deg), -1, 0)
    return _turn(roll, 0, 1) @ _turn(pitch, 1, 2) @ _turn(yaw, 2, 0)


def _turn(angle: ndarray | np.float64, first: int, second: int) -> ndarray:
    """Matrices that turn the axis `first` towards `second`."""
    matrix = np.zeros((*np.shape(angle), 3, 3))
    matrix[..., range(3), range(3)] = 1.0
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angle)
    matrix[..., second, first] = np.sin(angle)
    matrix[..., first, second] = -np.sin(angle)
    return matrix


def from_vectors(vectors: Float[ndarray, "*any 3"]) -> Float[ndarray, "*any 3"]:
    """Viewports in degrees of an untilted head that looks along `vectors`, of any length > 0."""
    x, y, z = np.moveaxis(np.asarray(vectors, dtype=np.float64), -1, 0)
    yaw, level = np.arctan2(x, z), np.hypot(x, z)
    length = np.hypot(level, y)
    sin_p, cos_p, sin_y, cos_y = -y / length, level / length, np.sin(yaw), np.cos(yaw)
    # the matrix Ry(yaw)·Rx(pitch), read off in the sequence ZXY
    angles = (
        np.arctan2(-sin_y * sin_p, cos_p),
        np.arcsin(np.clip(cos_y * sin_p, -1, 1)),
        np.arctan2(sin_y, cos_y * cos_p),
    )
    return wrap_deg(np.rad2deg(np.stack(angles, axis=-1)))


def to_yaw_pitch(viewports_deg: Float[ndarray, "*any 3"]) -> Float[ndarray, "*any 2"]:
    """Yaw and elevation in degrees of where the viewports look: longitude and latitude."""
    x, y, z = np.moveaxis(to_vectors(viewports_deg), -1, 0)
    yaw, pitch = np.arctan2(x, z), np.arctan2(-y, np.hypot(x, z))
    return wrap_deg(np.rad2deg(np.stack([yaw, pitch], axis=-1)))


def from_yaw_pitch(yaw_pitch_deg: Float[ndarray, "*any 2"]) -> Float[ndarray, "*any 3"]:
    """Viewports in degrees of an untilted head that looks at longitude yaw and latitude pitch."""
    yaw, pitch = np.moveaxis(np.deg2rad(yaw_pitch_deg), -1, 0)
    direction = (np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch))
    return from_vectors(np.stack(direction, axis=-1))


def turned(viewports_deg: Float[ndarray, "*any 3"], angle_deg: float) -> Float[ndarray, "*any 3"]:
    """The same viewports in degrees after the world was turned about the vertical.

    What lay at yaw 0 lies at yaw `angle_deg` then. Half a turn changes the signs of roll and pitch.
    """
    viewports_deg = np.asarray(viewports_deg, dtype=np.float64)
    angle_deg = float(wrap_deg(np.asarray(angle_deg, dtype=np.float64)))
    if angle_deg == 0:
        return viewports_deg.copy()
    if angle_deg == -180:
        return wrap_deg(viewports_deg * (-1, -1, 1) + (0, 0, 180))
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("Y", angle_deg, degrees=True)
    viewports = from_rotations(turn * rotations(viewports_deg.reshape(-1, 3)))
    return viewports.reshape(viewports_deg.shape)


def mirrored(
    viewports_deg: Float[ndarray, "*any 3"], front_deg: float = 0.0
) -> Float[ndarray, "*any 3"]:
    """The viewports in degrees of a viewer and a video seen in a mirror: left for right.

    The mirror stands along yaw `front_deg`, so who looks there still does.
    """
    return turned(np.asarray(viewports_deg) * (-1, 1, -1), 2 * front_deg)


def to_quaternions(viewports_deg: Float[ndarray, "*any 3"]) -> Float[ndarray, "*any 4"]:
    """Unit quaternions (x, y, z, w) that turn the head's axes into the world's."""
    viewports_deg = np.asarray(viewports_deg, dtype=np.float64)
    quaternions: ndarray = rotations(viewports_deg.reshape(-1, 3)).as_quat()
    return quaternions.reshape(*viewports_deg.shape[:-1], 4)


def from_quaternions(quaternions: Float[ndarray, "*any 4"]) -> Float[ndarray, "*any 3"]:
    """Viewports in degrees of the rotations given by quaternions (x, y, z, w)."""
    from scipy.spatial.transform import Rotation

    quaternions = np.asarray(quaternions, dtype=np.float64)
    viewports = from_rotations(Rotation.from_quat(quaternions.reshape(-1, 4)))
    return viewports.reshape(*quaternions.shape[:-1], 3)


def rotations(viewports_deg: Float[ndarray, "time 3"]) -> "Rotation":
    """The viewports as one scipy `Rotation`."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("ZXY", viewports_deg, degrees=True)


def from_rotations(rotation: "Rotation") -> Float[ndarray, "time 3"]:
    """Viewports in degrees of a stack of rotations."""
    with _at_the_poles():
        return wrap_deg(rotation.as_euler("ZXY", degrees=True))


@contextmanager
def _at_the_poles() -> Iterator[None]:
    """At pitch ±90° only roll ± yaw is determined; scipy chooses one of them and warns."""
    with catch_warnings():
        filterwarnings("ignore", message="Gimbal lock", category=UserWarning)
        yield
