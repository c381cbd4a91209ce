"""What looks like other axes, signs or columns in recordings of heads.

Heads tell by themselves how they are held, whatever they look at: they stay near the horizon, turn
sideways more than up and down, hardly tilt, and tilt towards where they turn. Two things cannot be
told: left from right, since a viewer in a mirror moves like a viewer; and up from down where the
angles have no tilt.

Source: heads are kept upright as in a Fick gimbal (Glenn and Vilis, "Violations of Listing's Law
    After Large Eye and Head Gaze Shifts", 1992); turns of the neck and its bending sideways are
    coupled (Lysell, "Motion in the Cervical Spine", 1969). The limits are ours, between what the
    published data have and what they have once a sign or a column is wrong.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.files.unit_warnings import Doubt
from netllm_sims.vp.geometry import rotation_matrices, to_yaw_pitch, wrap_deg

_LEAST_POINTS, _LEAST_VIEWERS = 1_000, 5
"""Fewer may have ways of their own: one in ten viewers of the published data does."""
_MOST_ELEVATION_DEG = 32.0
"""Root of the mean square: 14° to 18° in what we have, 48° and more with yaw for pitch."""
_MOST_UPWARDS = 1.5
"""As a share of the turns sideways: 0.3 to 0.4 in what we have."""
_MOST_TILT, _USUAL_TILT_DEG = 0.65, 9.0
"""As a share of the elevation: 0.4 and 0.5 in the published data, 0.8 and more with a wrong sign;
and in degrees: 6 and 7, and 11 and more."""
_UNLIKELY = 3.0
"""Standard errors below zero; the published data lie four and six above it."""
_LEAST_ENERGY = 1e-6
"""In degrees squared per step: angles without tilt leave some of rounding."""
_LEAST_FRONT, _FURTHEST_FRONT_DEG = 0.4, 60.0
"""Length of the mean direction from which on viewers have a front, and how far it may lie away."""

Recording = Float[ndarray, "time 3"]


def odd_orientation(recordings: Sequence[tuple[str, Recording]]) -> Iterator[Doubt]:
    """What is odd about where the heads of a data set point: the first doubt, if there is one.

    Args:
        recordings: The viewer's name and the viewports in degrees of each.
    """
    every = [viewports for _, viewports in recordings]
    viewers = {viewer for viewer, _ in recordings}
    if len(viewers) < _LEAST_VIEWERS or sum(map(len, every)) < _LEAST_POINTS:
        return
    elevation_deg = _rms(np.concatenate([to_yaw_pitch(one)[:, 1] for one in every]))
    tilt_deg = _rms(np.concatenate([_tilts_deg(one) for one in every]))
    sideways, upwards = np.abs(np.concatenate([_turns_deg(one) for one in every])).mean(axis=0)[:2]
    among = f"(root of the mean square over {len(every)} recordings)"
    if elevation_deg > _MOST_ELEVATION_DEG:
        yield Doubt(
            f"heads look {elevation_deg:.0f}° up or down {among}",
            f"less than {_MOST_ELEVATION_DEG:g}°, since viewers stay near the horizon",
            "If yaw and pitch or the axes are in another order, or pitch is counted from the "
            "zenith, correct the columns.",
        )
    elif upwards > _MOST_UPWARDS * sideways:
        yield Doubt(
            f"heads turn up and down {upwards / sideways:.1f} times as much as sideways",
            "heads to turn sideways more",
            "If yaw and pitch are in the other order, name the columns as they are.",
        )
    elif tilt_deg > max(_USUAL_TILT_DEG, _MOST_TILT * elevation_deg):
        yield Doubt(
            f"heads tilt by {tilt_deg:.0f}° and look {elevation_deg:.0f}° up or down {among}",
            f"a tilt below {_MOST_TILT:g} of that, since heads are kept upright",
            "If roll, pitch or yaw has another sign or order, or yaw begins elsewhere, turn them "
            "to the axes of netllm_sims.vp.geometry.",
        )
    else:
        yield from _odd_leaning(recordings)


def _odd_leaning(recordings: Sequence[tuple[str, Recording]]) -> Iterator[Doubt]:
    """Whether viewers tilt away from where they turn: up and down are exchanged."""
    by_viewer: dict[str, list[float]] = {}
    for viewer, viewports in recordings:
        right, _, tilt = _turns_deg(viewports).T
        energy = np.sqrt((right @ right) * (tilt @ tilt))
        if energy > _LEAST_ENERGY * len(right):
            by_viewer.setdefault(viewer, []).append(float(right @ tilt / energy))
    leaning = np.array([np.mean(some) for some in by_viewer.values()])
    if len(leaning) < _LEAST_VIEWERS:
        return
    error = leaning.std(ddof=1) / np.sqrt(len(leaning))
    if leaning.mean() < -_UNLIKELY * error:
        yield Doubt(
            f"heads tilt away from where they turn (a mean correlation of {leaning.mean():.2f} "
            f"over {len(leaning)} viewers)",
            "a tilt towards it, as necks bend",
            "If up and down are exchanged, change the signs of pitch and roll.",
        )


def odd_front(recordings: Sequence[Recording], front_deg: float) -> Iterator[Doubt]:
    """Whether heads look mostly elsewhere than at the front.

    Args:
        recordings: Viewports in degrees.
        front_deg: Yaw of the videos' front.
    """
    yaw = np.deg2rad(np.concatenate([to_yaw_pitch(one)[:, 0] for one in recordings]))
    mean = np.exp(1j * yaw).mean()
    seen_deg = float(np.rad2deg(np.angle(mean)))
    away_deg = abs(float(wrap_deg(np.array(seen_deg - front_deg))))
    if len(yaw) >= _LEAST_POINTS and abs(mean) > _LEAST_FRONT and away_deg > _FURTHEST_FRONT_DEG:
        yield Doubt(
            f"heads look mostly around yaw {seen_deg:.0f}°",
            f"within {_FURTHEST_FRONT_DEG:g}° of the setting's `front_deg`, {front_deg:g}°",
            f"If the videos' front lies there, set front_deg={seen_deg:.0f}: what learned from "
            "other data is turned to it.",
        )


def _rms(angles_deg: Float[ndarray, "time"]) -> float:
    return float(np.sqrt(np.square(angles_deg).mean()))


def _tilts_deg(viewports_deg: Recording) -> Float[ndarray, "time"]:
    """Angles by which the head's right side is lower than its left one."""
    turns = rotation_matrices(viewports_deg)
    tilts: ndarray = np.rad2deg(np.arctan2(turns[:, 1, 0], turns[:, 1, 1]))
    return tilts


def _turns_deg(viewports_deg: Recording) -> Float[ndarray, "step 3"]:
    """How far the head turned right, up and into a tilt to the right, from point to point."""
    angles = np.column_stack([to_yaw_pitch(viewports_deg), _tilts_deg(viewports_deg)])
    return wrap_deg(np.diff(angles, axis=0))
