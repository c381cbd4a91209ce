"""Trajectories of heads and the windows cut from them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.lib.stride_tricks import sliding_window_view


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Where one user's head pointed while a video played.

    Raises:
        ValueError: The arrays do not belong together.
    """

    video: str
    """The video's id, as `Jin2022/video4`."""
    user: str
    """The user's id, as `user83`."""
    times_s: Float[ndarray, "time"]
    """Seconds into the video."""
    viewports_deg: Float[ndarray, "time 3"]
    """Roll, pitch and yaw in degrees."""
    source: Path | None = None
    """The file it came from; a file in a zip is named like one in a folder."""
    breaks: tuple[int, ...] = ()
    """Points before which the recording was interrupted: no window reaches over one."""

    def __post_init__(self) -> None:
        for name in ("times_s", "viewports_deg"):
            values = np.array(getattr(self, name), dtype=np.float64)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        if self.times_s.ndim != 1 or self.viewports_deg.shape != (len(self.times_s), 3):
            raise ValueError(
                f"Trajectory `{self.id}`: `viewports_deg` must be (time, 3) for as many times, got "
                f"{self.viewports_deg.shape} for times of shape {self.times_s.shape}."
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of times and viewports: equal for recordings of equal content."""
        content = self.times_s.tobytes() + self.viewports_deg.tobytes()
        return hashlib.sha256(content).hexdigest()

    @property
    def id(self) -> str:
        """Video and user, as `Jin2022/video4/user83`."""
        return f"{self.video}/{self.user}"


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
    return Clip(
        id=trajectory.id,
        video=trajectory.video,
        user=trajectory.user,
        history_deg=np.ascontiguousarray(points[:, :history]),
        future_deg=np.ascontiguousarray(points[:, history:]),
        time_s=trajectory.times_s[starts - 1],
        contents=frozenset({trajectory.digest}),
    )
