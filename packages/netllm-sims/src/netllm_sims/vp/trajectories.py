"""Trajectories of heads, as recorded."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray


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
