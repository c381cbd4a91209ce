"""What looks like another unit in recordings of heads."""

from collections.abc import Iterator, Sequence
from math import pi

import numpy as np

from netllm_sims.files.unit_warnings import Doubt
from netllm_sims.vp.trajectory_formats import Points

_MOST_STEP_S = 5.0
_LEAST_STEP_S = 1e-3
_MOST_START_S = 86_400.0


def odd_angles(most_deg: Sequence[float]) -> Iterator[Doubt]:
    """What is odd about a data set of angles that do not say their unit.

    One head may rest, but hardly all of them: degrees pass 6.3 somewhere, radians never do.

    Args:
        most_deg: The largest magnitude of each recording.
    """
    most = max(most_deg, default=0.0)
    if 0 < most <= 2 * pi * 1.001:
        yield Doubt(
            f"no angle of {len(most_deg)} recordings is larger than {most:.3g}",
            "degrees: yaw from -180 to 180, pitch from -90 to 90",
            "If these are radians, multiply them by 57.2958 (if they are right, name the columns "
            "`yaw_deg` and so on).",
        )


def odd_times(points: Points) -> Iterator[Doubt]:
    """What is odd about the times of a recording."""
    if len(points.times_s) < 2:
        return
    step_s = float(np.median(np.abs(np.diff(points.times_s))))
    if step_s > _MOST_STEP_S and not points.says_time:
        yield Doubt(
            f"the median time between points is {step_s:,.0f} s",
            f"at most {_MOST_STEP_S:g} s",
            "If the times are ms, name their column `time_ms`.",
        )
    elif 0 < step_s < _LEAST_STEP_S:
        yield Doubt(
            f"the median time between points is {step_s:.1g} s",
            f"at least {_LEAST_STEP_S:g} s",
            "If the times are s, name their column `time_s`.",
        )
    if points.times_s[0] > _MOST_START_S:
        yield Doubt(
            f"the first time is {points.times_s[0]:,.0f} s",
            "seconds into the video",
            "Subtract the time at which the video began.",
        )
