"""A window of head movement as a picture: the known path, what followed, and what was predicted."""

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.vp.frames import Frame
from netllm_sims.vp.geometry import to_yaw_pitch


def draw(
    figure: Any,
    *,
    history_deg: Float[ndarray, "history 3"],
    future_deg: Float[ndarray, "horizon 3"] | None = None,
    predicted_deg: Float[ndarray, "horizon 3"] | None = None,
    frame: Frame | None = None,
    title: str = "",
) -> None:
    """Draw paths of viewports over the sphere, unrolled, into an empty figure of matplotlib.

    Args:
        figure: Where to draw.
        history_deg: Known viewports in degrees.
        future_deg: Viewports that followed them.
        predicted_deg: Viewports that were predicted to follow.
        frame: Equirectangular frame to lie behind.
        title: Of the picture.
    """
    axes = figure.subplots()
    if frame is not None:
        axes.imshow(frame, extent=(-180, 180, -90, 90), aspect="auto", alpha=0.5)
    paths = (
        ("known", "#000000", history_deg),
        ("what followed", "#009E73", future_deg),
        ("predicted", "#D55E00", predicted_deg),
    )
    for label, colour, viewports_deg in paths:
        if viewports_deg is not None:
            yaw_deg, pitch_deg = _unbroken(to_yaw_pitch(viewports_deg)).T
            axes.plot(yaw_deg, pitch_deg, ".-", color=colour, label=label, markersize=4)
    axes.set(
        xlabel="yaw (°)", ylabel="elevation (°)", xlim=(-180, 180), ylim=(-90, 90), title=title
    )
    axes.legend(frameon=False, loc="lower right")


def _unbroken(yaw_pitch_deg: Float[ndarray, "time 2"]) -> Float[ndarray, "time_and_gaps 2"]:
    """The path with a gap where it leaves the picture at one side and enters at the other."""
    jumps = np.flatnonzero(np.abs(np.diff(yaw_pitch_deg[:, 0])) > 180) + 1
    return np.insert(yaw_pitch_deg, jumps, np.nan, axis=0)
