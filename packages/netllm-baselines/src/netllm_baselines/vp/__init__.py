"""Rivals in viewport prediction, all behind the `Policy` protocol of `netllm_sims.vp`.

Each is built with a setting: `Velocity(setting("default"))`, and answers the next `horizon`
positions of a head (roll, pitch, yaw in degrees) from its last `history` ones. Modules load when
their policy is first named; `GRU`, `TRACK` and `VPT360` need torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm_baselines.vp.crowd_median import CrowdMedian
    from netllm_baselines.vp.gru import GRU, GRUDense
    from netllm_baselines.vp.gru_side import GRUSide
    from netllm_baselines.vp.rules import (
        HoldLast,
        LinearRegression,
        LinearRegressionUnwrapped,
        Velocity,
        VelocityUnwrapped,
    )
    from netllm_baselines.vp.track import TRACK, TRACKSaliency
    from netllm_baselines.vp.vpt360 import VPT360

_MODULES = {
    "CrowdMedian": "crowd_median",
    "GRU": "gru",
    "GRUDense": "gru",
    "GRUSide": "gru_side",
    "HoldLast": "rules",
    "LinearRegression": "rules",
    "LinearRegressionUnwrapped": "rules",
    "TRACK": "track",
    "TRACKSaliency": "track",
    "VPT360": "vpt360",
    "Velocity": "rules",
    "VelocityUnwrapped": "rules",
}

__all__ = [
    "GRU",
    "TRACK",
    "VPT360",
    "CrowdMedian",
    "GRUDense",
    "GRUSide",
    "HoldLast",
    "LinearRegression",
    "LinearRegressionUnwrapped",
    "TRACKSaliency",
    "Velocity",
    "VelocityUnwrapped",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
