"""A rule over earlier viewers of the same video: go where those turned who looked alike."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from netllm_sims.vp.geometry import unwrap_deg
from netllm_sims.vp.side_information import apart_rad
from numpy import ndarray

from netllm_baselines.vp._observed_angles import Observation, seen, valid

if TYPE_CHECKING:
    from netllm_sims.vp import Setting

_NEAREST = 10
_SHARE = 0.8
"""Both by the validation part of `crowd`."""
_ALIKE_S = 1.0


class CrowdMedian:
    """The last viewport, turned as most of the viewers did who had looked the same way.

    The ten viewers whose directions of the last second were nearest are taken, in the mean angle;
    the answer is the last viewport plus 0.8 times the median of their turns from the same moment
    on, axis by axis. Where nobody is known it holds the last viewport.

    Args:
        setting: Names horizon, rate and `crowd`.

    Raises:
        ValueError: The setting shows no crowd.

    Source: ours, after the nearest viewers of CUB360 (Ban et al., ICME 2018).
    """

    def __init__(self, setting: "Setting") -> None:
        if not setting.crowd:
            raise ValueError(
                "crowd-median follows earlier viewers, of whom setting "
                f"{setting.name!r} shows none. Test it with --setting crowd, or with "
                "--set crowd=42."
            )
        self.horizon = setting.horizon
        self._alike = max(1, round(_ALIKE_S * setting.rate_hz))

    def reset(self, seed: int) -> None:
        """Do nothing: every window stands alone."""

    def act(self, observation: Observation) -> Float[ndarray, "batch horizon 3"]:
        """Viewports of the coming points in degrees."""
        history = seen(observation, least=1, whose="crowd-median")
        crowd = np.asarray(observation["crowd_deg"], dtype=np.float64)
        points = history.shape[1]
        apart = apart_rad(history, crowd, observation["crowd_known"], points=self._alike)
        nearest = np.argsort(apart, axis=1, kind="stable")[:, :_NEAREST]
        chosen = np.take_along_axis(crowd, nearest[:, :, None, None], axis=1)
        turns = unwrap_deg(chosen[:, :, points - 1 :])
        turns = turns[:, :, 1 : self.horizon + 1] - turns[:, :, :1]
        there = np.isfinite(np.take_along_axis(apart, nearest, axis=1))
        return valid(history[:, -1:] + _SHARE * _median(turns, there))


def _median(
    turns: Float[ndarray, "batch viewer horizon 3"], there: ndarray
) -> Float[ndarray, "batch horizon 3"]:
    """Of the viewers who are there; zero without any."""
    ordered = np.sort(np.where(there[:, :, None, None], turns, np.inf), axis=1)
    count = there.sum(axis=1)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    rows = np.arange(len(turns))
    middle = (ordered[rows, low] + ordered[rows, np.minimum(high, ordered.shape[1] - 1)]) / 2
    return np.where((count > 0)[:, None, None], middle, 0.0)
