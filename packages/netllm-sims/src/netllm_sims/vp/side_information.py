"""What a service may know beside a window: the viewer's earlier movement, and the crowd's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from netllm_sims.vp.geometry import to_vectors, unwrap_deg, wrap_deg
from netllm_sims.vp.trajectories import Trajectory

GAP_S = 1.0
"""Where more lies between two points of a recording, nothing is known of the time between."""


@dataclass(frozen=True, eq=False)
class Crowd:
    """How viewers of the past moved in one video, at a steady rate on the video's own clock."""

    users: tuple[str, ...]
    begin_s: float
    """Seconds into the video of the first point."""
    rate_hz: float
    viewports_deg: Float[ndarray, "viewer time 3"]
    """Without jumps at ±180 degrees; anything where it is not known."""
    known: Bool[ndarray, "viewer time"]
    """Where the viewer was recorded."""

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory], *, rate_hz: float) -> Crowd:
        """The viewers of one video, interpolated between the points of their recordings.

        Args:
            trajectories: One for each viewer, all of the same video.
            rate_hz: Points per second.
        """
        begin_s = min(float(one.times_s[0]) for one in trajectories)
        end_s = max(float(one.times_s[-1]) for one in trajectories)
        grid_s = begin_s + np.arange(round((end_s - begin_s) * rate_hz) + 2) / rate_hz
        viewports = [_interpolated(one, grid_s) for one in trajectories]
        known = [_recorded(one, grid_s, 0.5 / rate_hz) for one in trajectories]
        users = tuple(one.user for one in trajectories)
        return cls(users, begin_s, rate_hz, np.stack(viewports), np.stack(known))

    def around(
        self, time_s: Float[ndarray, "window"], *, history: int, horizon: int
    ) -> tuple[Float[ndarray, "window viewer point 3"], Bool[ndarray, "window viewer"]]:
        """The viewers' last `history` points up to each time and the `horizon` points after it.

        A viewer is known in a window if recorded at all of its points; the others' are zero.
        """
        places = (time_s - self.begin_s) * self.rate_hz
        first = np.floor(places).astype(np.int64) - (history - 1)
        share = (places - np.floor(places))[:, None, None, None]
        points = first[:, None] + np.arange(history + horizon + 1)
        inside = (points >= 0) & (points < self.known.shape[1])
        points = points.clip(0, self.known.shape[1] - 1)
        found = self.viewports_deg[:, points].transpose(1, 0, 2, 3)
        known = (self.known[:, points] & inside).transpose(1, 0, 2)[..., :-1].all(axis=2)
        between = found[:, :, :-1] * (1 - share) + found[:, :, 1:] * share
        return wrap_deg(np.where(known[:, :, None, None], between, 0.0)), known


def _interpolated(one: Trajectory, grid_s: ndarray) -> Float[ndarray, "time 3"]:
    angles = unwrap_deg(one.viewports_deg)
    times_s = np.maximum.accumulate(one.times_s)  # a few published ones run back for a moment
    return np.stack([np.interp(grid_s, times_s, axis) for axis in angles.T], axis=-1)


def _recorded(one: Trajectory, grid_s: ndarray, slack_s: float) -> Bool[ndarray, "time"]:
    times_s = np.maximum.accumulate(one.times_s)
    known = (grid_s >= times_s[0] - slack_s) & (grid_s <= times_s[-1] + slack_s)
    holes = set(np.flatnonzero(np.diff(times_s) > GAP_S) + 1) | set(one.breaks)
    for point in sorted(holes):
        known &= (grid_s <= times_s[point - 1]) | (grid_s >= times_s[point])
    return known


@dataclass(frozen=True, eq=False)
class CrowdShown:
    """Which of a video's earlier viewers are shown."""

    most: int
    """How many are shown at most."""
    crowd: Crowd | None
    """All of them; None if there are none."""


@dataclass(frozen=True, eq=False)
class SideInformation:
    """What is known beside the windows of one clip.

    `side[windows]` are the fields of an observation for some of its windows:

    - `memory_deg` (window, memory, 3), the viewer's points before the history, newest last, and
      `memory_known` (window, memory), false where the recording had not begun or was interrupted;
    - `crowd_deg` (window, crowd, history + horizon, 3), how viewers of the train part moved in the
      same video at the window's own times, those of the future too, and `crowd_known`
      (window, crowd), false where there is no such viewer. The viewer is never one of them.

    What is not known is zero. A field is absent where the setting has `memory` or `crowd` 0.
    """

    trajectory: Trajectory
    starts: Int[ndarray, "window"]
    """Points at which the windows' futures begin."""
    history: int
    horizon: int
    memory: int = 0
    shown: CrowdShown | None = None

    def __getitem__(self, windows: slice | Int[ndarray, "some"]) -> dict[str, ndarray]:
        starts = self.starts[windows]
        fields = self._past(starts) if self.memory else {}
        return fields | (self._others(starts, self.shown) if self.shown else {})

    def _past(self, starts: Int[ndarray, "window"]) -> dict[str, ndarray]:
        newest = starts - self.history  # the point after the last one remembered
        points = newest[:, None] + np.arange(-self.memory, 0)
        begun = np.zeros(len(starts), dtype=np.int64)
        for point in self.trajectory.breaks:
            begun = np.where(newest >= point, np.maximum(begun, point), begun)
        known = points >= begun[:, None]
        past = self.trajectory.viewports_deg[points.clip(0)]
        return {"memory_deg": np.where(known[..., None], past, 0.0), "memory_known": known}

    def _others(self, starts: Int[ndarray, "window"], shown: CrowdShown) -> dict[str, ndarray]:
        shape = len(starts), shown.most
        crowd_deg = np.zeros((*shape, self.history + self.horizon, 3))
        known = np.zeros(shape, dtype=bool)
        if shown.crowd is not None:
            users = shown.crowd.users
            others = [k for k, user in enumerate(users) if user != self.trajectory.user]
            others = others[: shown.most]
            time_s = self.trajectory.times_s[starts - 1]
            found, there = shown.crowd.around(time_s, history=self.history, horizon=self.horizon)
            crowd_deg[:, : len(others)] = found[:, others]
            known[:, : len(others)] = there[:, others]
        return {"crowd_deg": crowd_deg, "crowd_known": known}


def apart_rad(
    history_deg: Float[ndarray, "window history 3"],
    crowd_deg: Float[ndarray, "window viewer point 3"],
    known: Bool[ndarray, "window viewer"],
    *,
    points: int,
) -> Float[ndarray, "window viewer"]:
    """How far from the viewer others looked: the mean angle over the last points of the history.

    Args:
        history_deg: The viewer's own points.
        crowd_deg: Those of others, from the same moment on.
        known: Who is known; the others are infinitely far.
        points: How many of the last points count; all of the history if it has fewer.
    """
    end = history_deg.shape[1]
    last = slice(max(0, end - points), end)
    cosines = (to_vectors(history_deg[:, None, last]) * to_vectors(crowd_deg[:, :, last])).sum(-1)
    return np.where(known, np.arccos(cosines.clip(-1, 1)).mean(-1), np.inf)
