"""Trajectories at another rate."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.vp import geometry


def resample(
    times_s: Float[ndarray, "time"], viewports_deg: Float[ndarray, "time 3"], *, rate_hz: float
) -> tuple[Float[ndarray, "other"], Float[ndarray, "other 3"]]:
    """Times and viewports every 1/`rate_hz` s, from the first time to the last.

    Between two points the head turns at constant speed about one axis, the shortest way
    (spherical linear interpolation of the rotations).

    Args:
        times_s: Increasing times.
        viewports_deg: Viewports at these times.
        rate_hz: Points per second wanted.

    Raises:
        ValueError: A rate that is not positive.
    """
    if not rate_hz > 0:
        raise ValueError(f"`rate_hz` must be > 0, got {rate_hz}.")
    from scipy.spatial.transform import Slerp

    if len(times_s) < 2:
        return np.array(times_s), np.array(viewports_deg)
    points = int(np.floor((times_s[-1] - times_s[0]) * rate_hz + 1e-9)) + 1
    wanted_s = np.minimum(times_s[0] + np.arange(points) / rate_hz, times_s[-1])
    between = Slerp(times_s, geometry.rotations(viewports_deg))
    return wanted_s, geometry.from_rotations(between(wanted_s))
