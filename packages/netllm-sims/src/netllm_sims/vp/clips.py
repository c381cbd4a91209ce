"""The windows of one viewer watching one video, cut from a trajectory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.lib.stride_tricks import sliding_window_view

from netllm_sims.vp.side_information import CrowdShown, SideInformation
from netllm_sims.vp.trajectories import Trajectory


@dataclass(frozen=True, eq=False)
class Clip:
    """The windows of one user watching one video: the unit of results and intervals."""

    id: str
    """Video and user, as `Jin2022/video4/user83`."""
    video: str
    """The video's id, as `Jin2022/video4`."""
    user: str
    """The user's id, as `user83`."""
    history_deg: Float[ndarray, "window history 3"]
    """Viewports known at the moment of prediction, as recorded: wrapped."""
    future_deg: Float[ndarray, "window horizon 3"]
    """Viewports that follow."""
    time_s: Float[ndarray, "window"]
    """Seconds into the video of the last known viewport."""
    contents: frozenset[str] = frozenset()
    """Digest of the trajectory: who learned from it knows the windows."""
    side: SideInformation | None = None
    """What is known beside the windows, where the setting has `memory` or a `crowd`."""

    def fields(self, windows: slice | Int[ndarray, "some"]) -> dict[str, ndarray]:
        """The fields of an observation of some windows, without the video's name."""
        known = {"viewport_deg": self.history_deg[windows], "time_s": self.time_s[windows]}
        return known if self.side is None else known | self.side[windows]

    def __len__(self) -> int:
        return len(self.time_s)


def cut(
    trajectory: Trajectory,
    *,
    history: int,
    horizon: int,
    stride: int,
    trim_head: int,
    trim_tail: int,
    memory: int = 0,
    crowd: CrowdShown | None = None,
) -> Clip:
    """Windows of `trajectory` whose futures begin at points `trim_head`, then every `stride`.

    No window reaches over the trajectory's ends or breaks. The last future begins before the last
    `trim_tail` points.

    Args:
        trajectory: Trajectory at a steady rate.
        history: Known points of a window.
        horizon: Points to predict.
        stride: Points between windows.
        trim_head: Points at the start in which no future begins, at least `history`.
        trim_tail: Points at the end in which no future begins, at least `horizon` - 1.
        memory: Points before the history that are known too.
        crowd: Who else is seen, if anybody.
    """
    length = len(trajectory.times_s)
    starts = np.arange(trim_head, max(length - trim_tail, trim_head), stride)
    for point in trajectory.breaks:
        starts = starts[(starts + horizon <= point) | (starts - history >= point)]
    if len(starts):
        windows = sliding_window_view(trajectory.viewports_deg, history + horizon, axis=0)
        points = np.moveaxis(windows[starts - history], -1, 1)
    else:
        points = np.empty((0, history + horizon, 3))
    side = None
    if memory or crowd:
        side = SideInformation(trajectory, starts, history, horizon, memory, crowd)
    return Clip(
        id=trajectory.id,
        video=trajectory.video,
        user=trajectory.user,
        history_deg=np.ascontiguousarray(points[:, :history]),
        future_deg=np.ascontiguousarray(points[:, history:]),
        time_s=trajectory.times_s[starts - 1],
        contents=frozenset({trajectory.digest}),
        side=side,
    )


def numbered(
    clips: Sequence[Clip],
) -> tuple[Int[ndarray, "window"], Int[ndarray, "window"]]:
    """Of every window of some clips, clip by clip: the number of its clip, and its own in there."""
    clip_of = np.repeat(np.arange(len(clips)), [len(clip) for clip in clips])
    return clip_of, np.concatenate([np.arange(len(clip)) for clip in clips])


def gathered(
    clips: Sequence[Clip], clip_of: Int[ndarray, "window"], window_of: Int[ndarray, "window"]
) -> dict[str, ndarray]:
    """The fields of an observation of windows of several clips.

    Args:
        clips: All of one setting.
        clip_of: Number of each window's clip.
        window_of: Its number within the clip.
    """
    order = np.argsort(clip_of, kind="stable")
    numbers, first = np.unique(clip_of[order], return_index=True)
    windows = np.split(window_of[order], first[1:])
    pieces = [clips[k].fields(some) for k, some in zip(numbers, windows, strict=True)]
    back = np.argsort(order, kind="stable")
    return {name: np.concatenate([one[name] for one in pieces])[back] for name in pieces[0]}
