"""What a prediction is worth to a player that fetches tiles: how many bits, for which quality."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.vp.metrics import (
    Predicted,
    check_shapes,
    half_extents,
    in_head_axes,
    visible_tiles,
)

_BLOCK = 256
"""Windows at once: some megabytes."""


class Fetched(NamedTuple):
    """What a player fetched in high quality, by window and margin; means over the horizon."""

    seen: Float[ndarray, "window margin"]
    """Share of the tiles in view that came in high quality; 1 where none is in view."""
    bits: Float[ndarray, "window margin"]
    """Bits of the tiles in high quality, as a share of those of the whole frame."""


def fetched_by_margin(
    predicted_deg: Predicted,
    future_deg: Predicted,
    margins_deg: Sequence[float],
    *,
    fov_deg: tuple[float, float] = (110.0, 90.0),
    tiles: tuple[int, int] = (6, 12),
    rates: Float[ndarray, "row column"] | None = None,
) -> Fetched:
    """What is fetched and seen if tiles around the predicted view are fetched as well.

    In high quality come the tiles whose centres lie in the predicted view or, on the sphere, within
    the margin of it. So a wider margin never shows less, one of 180° fetches
    the whole frame, and two predictions are compared by the bits that each takes at the margin
    at which both show the same share of what is seen in high quality.

    Args:
        predicted_deg: Predicted viewports, each of which is fetched for its own point in time.
        future_deg: True viewports.
        margins_deg: Margins in degrees.
        fov_deg: Field of view, across and from top to bottom, in degrees: see `visible_tiles`.
        tiles: Rows and columns of equal angles into which the equirectangular frame is cut.
        rates: Bits of each tile in high quality, in any unit; equal ones if None.

    Raises:
        ValueError: Shapes that do not fit, a negative margin or rate, or nothing but zero rates.

    Source: a margin around the predicted viewport, by how often the prediction may fail, is Bao et
        al., "Shooting a Moving Target: Motion-Prediction-Based Transmission for 360-Degree
        Videos", IEEE Big Data 2016; tiles around the predicted ones are Qian et al., "Flare",
        MobiCom 2018. Unlike theirs, the link plays no part here.
    """
    check_shapes(predicted_deg, future_deg)
    if min(margins_deg, default=0.0) < 0:
        raise ValueError(f"`margins_deg` must be at least 0, got {min(margins_deg)}.")
    weights = _shares(rates, tiles)
    found = np.empty((2, len(predicted_deg), len(margins_deg)))
    for begin in range(0, len(predicted_deg), _BLOCK):
        some = slice(begin, begin + _BLOCK)
        away_deg = _outside_deg(in_head_axes(np.asarray(predicted_deg)[some], tiles), fov_deg)
        seen = visible_tiles(np.asarray(future_deg)[some], fov_deg=fov_deg, tiles=tiles)
        count = seen.sum(-1)
        for column, margin_deg in enumerate(margins_deg):
            fetched = away_deg <= margin_deg  # (window, horizon, tile)
            hits = np.where(count > 0, (fetched * seen).sum(-1) / np.maximum(count, 1), 1.0)
            found[0, some, column] = hits.mean(-1)
            found[1, some, column] = (fetched @ weights).mean(-1)
    return Fetched(*found)


def _outside_deg(
    directions: Float[ndarray, "3 *any"], fov_deg: tuple[float, float]
) -> Float[ndarray, "*any"]:
    """Angles between directions in the head's axes and the nearest that is in view; 0 in view.

    The border of the view is four arcs of great circles. The nearest point of one is the foot of
    the perpendicular, where that lies on the arc, or else a corner.
    """
    wide, high = half_extents(fov_deg)
    x, y, z = np.abs(directions[0]), np.abs(directions[1]), directions[2]
    corner = (wide * x + high * y + z) / np.sqrt(wide**2 + high**2 + 1)
    away = np.arccos(np.clip(corner, -1, 1))
    for across, along, half, other in ((x, y, wide, high), (y, x, high, wide)):
        over = (across - half * z) / np.hypot(half, 1)  # sine of the angle beyond the border
        ahead = z + over * half / np.hypot(half, 1)  # of the foot
        on_arc = (ahead > 0) & (along <= other * ahead)
        away = np.where(on_arc, np.minimum(away, np.arcsin(np.clip(over, -1, 1))), away)
    in_view = (z > 0) & (x <= wide * z) & (y <= high * z)
    return np.where(in_view, 0.0, np.rad2deg(away))


def _shares(
    rates: Float[ndarray, "row column"] | None, tiles: tuple[int, int]
) -> Float[ndarray, "tile"]:
    """Each tile's share of the bits of the whole frame."""
    table = np.ones(tiles) if rates is None else np.asarray(rates, dtype=float)
    if table.shape != tiles or not np.isfinite(table).all() or table.min() < 0 or not table.any():
        raise ValueError(
            f"`rates` must hold {tiles[0]} rows of {tiles[1]} finite numbers >= 0, not all 0, got "
            f"{table.shape} from {table.min():g} to {table.max():g}. Write a row per row of tiles."
        )
    shares: ndarray = table.ravel() / table.sum()
    return shares
