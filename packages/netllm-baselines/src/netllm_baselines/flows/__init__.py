"""Rivals in flow classification, all behind the `Policy` protocol of `netllm_sims.flows`.

Each is built with a setting: `Port(setting("default"))`, and gives each class of the setting a
probability. All but `CNN` learn from the setting's training part when they are first asked, and
choose what must be chosen by its validation part. Modules load when their policy is first named;
`GradientBoosting` and `NearestNeighbours` need scikit-learn, `CNN` torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm_baselines.flows.cnn import CNN
    from netllm_baselines.flows.gradient_boosting import GradientBoosting
    from netllm_baselines.flows.nearest_neighbours import NearestNeighbours
    from netllm_baselines.flows.port import Port

_MODULES = {
    "CNN": "cnn",
    "GradientBoosting": "gradient_boosting",
    "NearestNeighbours": "nearest_neighbours",
    "Port": "port",
}

__all__ = ["CNN", "GradientBoosting", "NearestNeighbours", "Port"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
