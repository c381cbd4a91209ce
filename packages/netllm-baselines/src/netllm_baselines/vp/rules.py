"""Rules: hold the last position, go on with its velocity, extend the fitted line."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_baselines.vp._observed_angles import Observation, continuous, seen, valid

if TYPE_CHECKING:
    from netllm_sims.vp import Setting


class HoldLast:
    """The last seen viewport at every future point.

    Args:
        setting: Names the horizon.

    Source: ours. Not among the rivals of NetLLM's paper, all of which it beats but one.
    """

    def __init__(self, setting: "Setting") -> None:
        self.horizon = setting.horizon

    def reset(self, seed: int) -> None:
        """Do nothing: every window stands alone."""

    def act(self, observation: Observation) -> Float[ndarray, "batch horizon 3"]:
        """Viewports of the coming points in degrees."""
        last = seen(observation, least=1, whose="hold-last")[:, -1:]
        return np.repeat(last, self.horizon, axis=1)


class _Line:
    """A straight line through the history, one slope and one start per axis.

    The angles are taken as recorded, as the reference takes them, and so are the answers: where
    a head crosses ±180 degrees the line runs through the jump (4.7 % of the windows of Jin2022
    carry a quarter of the yaw error). With `unwrap` the jumps are removed first and the answers
    are valid viewports.
    """

    def __init__(self, setting: "Setting", *, unwrap: bool = False) -> None:
        if setting.history < 2:
            raise ValueError(
                "a line needs at least 2 points of history, "
                f"setting {setting.name!r} has {setting.history}. Use hold-last."
            )
        self.horizon = setting.horizon
        self.unwrap = unwrap

    def reset(self, seed: int) -> None:
        """Do nothing: every window stands alone."""

    def act(self, observation: Observation) -> Float[ndarray, "batch horizon 3"]:
        """Viewports of the coming points in degrees; with `unwrap` always valid ones."""
        history = seen(observation, least=2, whose="a line")
        if not self.unwrap:
            return self._extend(history)
        return valid(self._extend(continuous(history)))

    def _extend(
        self, history: Float[ndarray, "batch history 3"]
    ) -> Float[ndarray, "batch horizon 3"]:
        raise NotImplementedError

    def _steps(self) -> Float[ndarray, "horizon 1"]:
        return np.arange(1.0, self.horizon + 1)[:, None]


class Velocity(_Line):
    """The last viewport, moving on with the mean velocity of the history.

    x[k] = x[-1] + k (x[-1] - x[0]) / (history - 1).

    Args:
        setting: Names horizon and history.
        unwrap: Remove jumps at ±180 degrees first; else as the reference does.

    Raises:
        ValueError: The history has fewer than 2 points.

    Source: NetLLM, commit 105bcf07, `velocity.py`, for whole batches (it reads batch element 0).
    """

    def _extend(
        self, history: Float[ndarray, "batch history 3"]
    ) -> Float[ndarray, "batch horizon 3"]:
        slope = (history[:, -1:] - history[:, :1]) / (history.shape[1] - 1)
        return history[:, -1:] + self._steps() * slope


class LinearRegression(_Line):
    """The least-squares line of the history, extended.

    The reference fits again after each point that it has predicted; those points lie on the line,
    so the first fit is the last one and has a closed form.

    Args:
        setting: Names horizon and history.
        unwrap: Remove jumps at ±180 degrees first; else as the reference does.

    Raises:
        ValueError: The history has fewer than 2 points.

    Source: NetLLM, commit 105bcf07, `linear_regression.py`.
    """

    def _extend(
        self, history: Float[ndarray, "batch history 3"]
    ) -> Float[ndarray, "batch horizon 3"]:
        points = history.shape[1]
        time = np.arange(points) - (points - 1) / 2
        slope = np.einsum("t,btx->bx", time / (time @ time), history)
        ahead = time[-1] + self._steps()
        return history.mean(axis=1, keepdims=True) + ahead * slope[:, None]


VelocityUnwrapped = partial(Velocity, unwrap=True)
"""`Velocity` over the jumps at ±180 degrees."""
LinearRegressionUnwrapped = partial(LinearRegression, unwrap=True)
"""`LinearRegression` over the jumps at ±180 degrees."""
