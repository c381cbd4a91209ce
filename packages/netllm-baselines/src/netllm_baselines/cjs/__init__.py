"""Rivals in cluster job scheduling, all behind the `Policy` protocol of `netllm_sims.cjs`.

Each is built with a setting: `Fair(setting("default"))`. Modules load when their policy is first
named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm_baselines.cjs.decima import Decima, DecimaGreedy, DecimaOurs
    from netllm_baselines.cjs.look_ahead import Rollout
    from netllm_baselines.cjs.random import Random
    from netllm_baselines.cjs.rules import FIFO, SRW, CriticalPath, Fair, TrueFIFO, WeightedFair
    from netllm_baselines.cjs.tuned_share import TunedShare

_MODULES = {
    "CriticalPath": "rules",
    "Decima": "decima",
    "DecimaGreedy": "decima",
    "DecimaOurs": "decima",
    "FIFO": "rules",
    "Fair": "rules",
    "Random": "random",
    "Rollout": "look_ahead",
    "SRW": "rules",
    "TrueFIFO": "rules",
    "TunedShare": "tuned_share",
    "WeightedFair": "rules",
}

__all__ = [
    "FIFO",
    "SRW",
    "CriticalPath",
    "Decima",
    "DecimaGreedy",
    "DecimaOurs",
    "Fair",
    "Random",
    "Rollout",
    "TrueFIFO",
    "TunedShare",
    "WeightedFair",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
