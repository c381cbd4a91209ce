"""Plots of viewport prediction: the error over the horizon, and one prediction on the sphere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from netllm.report.metric import Metric
from netllm.report.plots import BOUND, frame, short, styled
from netllm.report.result import Result, best_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALE = 0.4
"""How much of a frame's darkness is kept under the lines of an example."""


def horizon(ax: Axes, results: Sequence[Result], metric: Metric) -> Axes:
    """The mean error of every step of the horizon, a line per policy, over seconds ahead."""
    for result, style in styled(best_first(results, metric), frozenset()):
        rows = result.episodes
        weights = [row["weight"] for row in rows]
        error = np.average([row["mae_by_step_deg"] for row in rows], axis=0, weights=weights)
        ahead_s = (np.arange(len(error)) + 1) * rows[0]["step_s"]
        ax.plot(ahead_s, error, label=short(result), **style)
    frame(ax, results)
    ax.set_xlabel("seconds ahead")
    ax.set_ylabel("MAE °")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize="small")
    return ax


def example(ax: Axes, results: Sequence[Result], metric: Metric) -> Axes:
    """The window of the first clip in which the head moves most, on the equirectangular frame.

    A dot ends every answer, so that one which hardly moves, or holds, can be seen too. Below lies
    the frame on display when it was asked for, where the setting has frames; the middle is yaw 0.
    """
    seen = results[0].episodes[0]["example"]
    past, future = (np.array(seen[f"{part}_deg"]) for part in ("history", "future"))
    _path(ax, past, color=BOUND, linewidth=3, label="seen")
    _path(ax, np.vstack([past[-1:], future]), color="black", linewidth=3, label="came")
    for result, style in styled(best_first(results, metric), frozenset()):
        answer = np.array(result.episodes[0]["example"]["predicted_deg"])
        _path(ax, np.vstack([past[-1:], answer]), label=short(result), **style)
    frame(ax, results)
    _background(ax, results[0].place, seen)
    ax.set_xlim(-180, 180)
    ax.set_ylim(-90, 90)
    ax.set_aspect("equal")
    ax.set_xticks(range(-180, 181, 60))
    ax.set_yticks(range(-90, 91, 30))
    ax.set_xlabel(f"longitude °, {results[0].episodes[0]['id']} at {seen['time_s']:.0f} s")
    ax.set_ylabel("latitude °")
    ax.legend(fontsize="x-small", ncols=2, framealpha=0.8)
    return ax


def _background(ax: Axes, place: Any, seen: Mapping[str, Any]) -> None:
    """The frame on display at the moment of the example, paled so that lines stand out."""
    frames = None if place is None else place.frames_of(seen["video"])
    if frames is not None:
        pale = 255 - (255 - frames.at(seen["time_s"]).astype(float)) * PALE
        ax.imshow(pale.astype(np.uint8), extent=(-180, 180, -90, 90), zorder=0)
        ax.grid(visible=False)


def _path(ax: Axes, viewports_deg: np.ndarray, **style: Any) -> None:
    """A line in the frame with a dot at its end, broken where it crosses the seam."""
    from netllm_sims.vp.geometry import to_yaw_pitch

    # The pitch of a tilted head is not the latitude that it looks at.
    yaw, pitch = to_yaw_pitch(viewports_deg).T
    breaks = np.flatnonzero(np.abs(np.diff(yaw)) > 180) + 1
    ax.plot(np.insert(yaw, breaks, np.nan), np.insert(pitch, breaks, np.nan), **style)
    # Dots lie above all lines.
    ax.plot(yaw[-1], pitch[-1], "o", color=style["color"], markeredgecolor="white", zorder=4)
