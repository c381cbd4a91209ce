"""What a policy is shown, checked, and angles that wrap."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Shaped
from netllm_sims.vp.geometry import unwrap_deg, wrap_deg
from numpy import ndarray

Observation = Mapping[str, Shaped[ndarray, "batch ..."]]


def seen(observation: Observation, *, least: int, whose: str) -> Float[ndarray, "batch history 3"]:
    """The histories of an observation, in float64.

    Raises:
        ValueError: They have another shape, or fewer than `least` points.
    """
    history: ndarray = np.asarray(observation["viewport_deg"], dtype=np.float64)
    if history.ndim != 3 or history.shape[2] != 3 or history.shape[1] < least:
        raise ValueError(
            f"`viewport_deg` must be (batch, history, 3) with at least {least} points for {whose}, "
            f"got shape {history.shape}."
        )
    return history


def valid(viewport_deg: Float[ndarray, "*shape 3"]) -> Float[ndarray, "*shape 3"]:
    """Roll and yaw wrapped to [-180, 180), pitch cut to [-90, 90]."""
    answer: ndarray = wrap_deg(viewport_deg)
    answer[..., 1] = np.clip(viewport_deg[..., 1], -90, 90)
    return answer


def continuous(
    viewport_deg: Float[ndarray, "batch history 3"],
) -> Float[ndarray, "batch history 3"]:
    """Histories without jumps at ±180 degrees, as recorded at their last point."""
    smooth: ndarray = unwrap_deg(viewport_deg, axis=1)
    return smooth + (viewport_deg[:, -1:] - smooth[:, -1:])
