"""Errors of predicted viewports: `metric(predicted_deg, future_deg)` is one number per window.

With `per_step=True` it is one per window and step of the horizon. Predictions are (window, horizon,
3) in degrees, as roll, pitch and yaw.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.vp.geometry import rotation_matrices, to_vectors, wrap_deg

__all__ = [
    "great_circle_deg",
    "mae_deg",
    "rmse_deg",
    "rmse_unwrapped_deg",
    "tile_f_score",
    "tile_hit_rate",
    "tile_iou",
    "tile_scores",
    "wrap_deg",
]

Predicted = Float[ndarray, "window horizon 3"]
Scores = Float[ndarray, "window"] | Float[ndarray, "window horizon"]


def mae_deg(predicted_deg: Predicted, future_deg: Predicted, *, per_step: bool = False) -> Scores:
    """Mean absolute error in degrees over steps and the three axes, around the circle.

    Each error is min(|d|, |d + 360|, |d - 360|): the wrapped one for every answer in
    [-180, 180), and more than that for a linear extrapolation that winds itself up.

    Source: the public NetLLM code, `utils/metrics.py`.
    """
    error = _error_deg(predicted_deg, future_deg)
    return error.mean(axis=-1 if per_step else (-2, -1))


def rmse_deg(predicted_deg: Predicted, future_deg: Predicted, *, per_step: bool = False) -> Scores:
    """Root of the mean squared error in degrees over steps and axes, around the circle.

    The one of all windows together is the root of the mean of these squared.
    """
    error = _error_deg(predicted_deg, future_deg)
    return np.sqrt(np.square(error).mean(axis=-1 if per_step else (-2, -1)))


def rmse_unwrapped_deg(
    predicted_deg: Predicted, future_deg: Predicted, *, per_step: bool = False
) -> Scores:
    """The reference's RMSE in degrees, which counts -179° and 179° as 358° apart.

    Source: the public NetLLM code, whose `compute_rmse` drops its argument `rotation`.
    """
    check_shapes(predicted_deg, future_deg)
    error = np.square(np.asarray(predicted_deg) - future_deg)
    return np.sqrt(error.mean(axis=-1 if per_step else (-2, -1)))


def great_circle_deg(
    predicted_deg: Predicted, future_deg: Predicted, *, per_step: bool = False
) -> Scores:
    """Angle in degrees between the predicted and the true direction, mean over steps.

    2·atan2(|u - v|, |u + v|) of the unit vectors u and v along which the viewports look, exact at
    any angle. A tilt of the head about that direction does not count.
    """
    check_shapes(predicted_deg, future_deg)
    u, v = to_vectors(predicted_deg), to_vectors(future_deg)
    chord, sum_ = np.linalg.norm(u - v, axis=-1), np.linalg.norm(u + v, axis=-1)
    angle = np.rad2deg(2 * np.arctan2(chord, sum_))
    return angle if per_step else angle.mean(axis=-1)


def tile_hit_rate(
    predicted_deg: Predicted,
    future_deg: Predicted,
    *,
    per_step: bool = False,
    fov_deg: tuple[float, float] = (110.0, 90.0),
    tiles: tuple[int, int] = (6, 12),
) -> Scores:
    """Share of the tiles in view that the predicted viewport has in view: |P ∩ F| / |F|.

    It is 1 where no tile is in view, as none is missing: a narrow field may lie between centres.

    Args:
        predicted_deg: Predicted viewports.
        future_deg: True viewports.
        per_step: Keep the horizon.
        fov_deg: Field of view, across and from top to bottom, in degrees: see `visible_tiles`.
        tiles: Rows and columns of equal angles into which the equirectangular frame is cut.
    """
    return tile_scores(
        predicted_deg, future_deg, per_step=per_step, fov_deg=fov_deg, tiles=tiles
    ).hit_rate


def tile_f_score(
    predicted_deg: Predicted,
    future_deg: Predicted,
    *,
    per_step: bool = False,
    fov_deg: tuple[float, float] = (110.0, 90.0),
    tiles: tuple[int, int] = (6, 12),
) -> Scores:
    """F-score of the predicted tiles: 2·|P ∩ F| / (|P| + |F|); see `tile_hit_rate`.

    It is the harmonic mean of the hit rate and of the precision |P ∩ F| / |P|, the share of the
    predicted tiles that come into view; 1 where no tile is in either.
    """
    return tile_scores(
        predicted_deg, future_deg, per_step=per_step, fov_deg=fov_deg, tiles=tiles
    ).f_score


def tile_iou(
    predicted_deg: Predicted,
    future_deg: Predicted,
    *,
    per_step: bool = False,
    fov_deg: tuple[float, float] = (110.0, 90.0),
    tiles: tuple[int, int] = (6, 12),
) -> Scores:
    """Intersection over union of the tiles in both views, |P ∩ F| / |P ∪ F|; see `tile_hit_rate`.

    It is 1 where no tile is in either.
    """
    return tile_scores(
        predicted_deg, future_deg, per_step=per_step, fov_deg=fov_deg, tiles=tiles
    ).iou


class TileScores(NamedTuple):
    """What predicted tiles are worth, by three measures."""

    hit_rate: Scores
    """See `tile_hit_rate`."""
    f_score: Scores
    """See `tile_f_score`."""
    iou: Scores
    """See `tile_iou`."""


def tile_scores(
    predicted_deg: Predicted,
    future_deg: Predicted,
    *,
    per_step: bool = False,
    fov_deg: tuple[float, float] = (110.0, 90.0),
    tiles: tuple[int, int] = (6, 12),
) -> TileScores:
    """`tile_hit_rate`, `tile_f_score` and `tile_iou` in the time of one of them."""
    hits, fetched, seen = _tiles(predicted_deg, future_deg, fov_deg, tiles)
    parts = ((hits, seen), (2 * hits, fetched + seen), (hits, fetched + seen - hits))
    shares = [np.where(of > 0, some / np.maximum(of, 1), 1.0) for some, of in parts]
    return TileScores(*(share if per_step else share.mean(axis=-1) for share in shares))


def visible_tiles(
    viewports_deg: Float[ndarray, "*any 3"],
    *,
    fov_deg: tuple[float, float],
    tiles: tuple[int, int],
) -> Float[ndarray, "*any tile"]:
    """1 for each tile in view, else 0; tiles row by row from the top, yaw -180° first.

    A tile is in view when its centre is: with (x, y, z) = Rᵀ·centre in the head's axes,
    z > 0, |x|/z <= tan(width/2) and |y|/z <= tan(height/2), a flat display that turns and tilts
    with the head.

    Raises:
        ValueError: A field of view outside (0, 180) or no tiles.
    """
    wide, high = half_extents(fov_deg)
    x, y, z = in_head_axes(viewports_deg, tiles)
    return ((z > 0) & (np.abs(x) <= wide * z) & (np.abs(y) <= high * z)).astype(np.float64)


def half_extents(fov_deg: tuple[float, float]) -> tuple[float, float]:
    """Tangents of half the field of view, across and from top to bottom.

    Raises:
        ValueError: A field of view outside (0, 180).
    """
    if not all(0 < angle < 180 for angle in fov_deg):
        raise ValueError(f"`fov_deg` must be two angles in (0, 180) degrees, got {fov_deg}.")
    wide, high = (float(np.tan(np.deg2rad(angle) / 2)) for angle in fov_deg)
    return wide, high


def in_head_axes(
    viewports_deg: Float[ndarray, "*any 3"], tiles: tuple[int, int]
) -> Float[ndarray, "3 *any tile"]:
    """Unit vectors to the centres of tiles as the head sees them: to its right, down, ahead.

    Raises:
        ValueError: No tiles.
    """
    if min(tiles) < 1:
        raise ValueError(f"`tiles` must be at least one row and one column, got {tiles}.")
    rows, columns = tiles
    latitude = np.pi / 2 - (np.arange(rows) + 0.5) * np.pi / rows
    longitude = (np.arange(columns) + 0.5) * 2 * np.pi / columns - np.pi
    up, right = (a.ravel() for a in np.meshgrid(latitude, longitude, indexing="ij"))
    centres = np.stack([np.cos(up) * np.sin(right), -np.sin(up), np.cos(up) * np.cos(right)])
    turns = np.moveaxis(rotation_matrices(viewports_deg), -1, -2)  # (..., 3, 3)
    inside = turns.reshape(-1, 3) @ centres  # one product, ten times as fast as one per viewport
    found: ndarray = np.moveaxis(inside.reshape(*turns.shape[:-1], -1), -2, 0)
    return found


def _tiles(
    predicted_deg: Predicted,
    future_deg: Predicted,
    fov_deg: tuple[float, float],
    tiles: tuple[int, int],
) -> tuple[ndarray, ndarray, ndarray]:
    check_shapes(predicted_deg, future_deg)
    counts = []
    for begin in range(0, max(len(predicted_deg), 1), 256):  # some megabytes at a time
        fetched, seen = (
            visible_tiles(np.asarray(v)[begin : begin + 256], fov_deg=fov_deg, tiles=tiles)
            for v in (predicted_deg, future_deg)
        )
        counts.append([(fetched * seen).sum(-1), fetched.sum(-1), seen.sum(-1)])
    hits, fetched, seen = (np.concatenate(parts) for parts in zip(*counts, strict=True))
    return hits, fetched, seen


def _error_deg(predicted_deg: ndarray, future_deg: ndarray) -> ndarray:
    check_shapes(predicted_deg, future_deg)
    d = np.asarray(predicted_deg, dtype=np.float64) - future_deg
    return np.minimum(np.abs(d), np.minimum(np.abs(d + 360), np.abs(d - 360)))


def check_shapes(predicted_deg: ndarray, future_deg: ndarray) -> None:
    """Raise ValueError unless both are (window, horizon, 3)."""
    shape, other = np.shape(predicted_deg), np.shape(future_deg)
    if shape != other or len(shape) != 3 or shape[-1] != 3:
        raise ValueError(
            "`predicted_deg` and `future_deg` must both be (window, horizon, 3), got "
            f"{shape} and {other}."
        )
