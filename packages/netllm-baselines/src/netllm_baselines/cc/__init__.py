"""Rivals in congestion control, all behind the `Policy` protocol of `netllm_sims.cc`.

Each is built with a setting: `Copa(setting("default"))`. Modules load when their policy is first
named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm_baselines.cc.aimd import AIMD
    from netllm_baselines.cc.aurora import Aurora, AuroraSampled
    from netllm_baselines.cc.bbr import BBR
    from netllm_baselines.cc.capacity import Capacity
    from netllm_baselines.cc.copa import Copa
    from netllm_baselines.cc.cubic import CUBIC
    from netllm_baselines.cc.random import Random
    from netllm_baselines.cc.vegas import Vegas
    from netllm_baselines.cc.vivace import Vivace

_MODULES = {
    "AIMD": "aimd",
    "Aurora": "aurora",
    "AuroraSampled": "aurora",
    "BBR": "bbr",
    "CUBIC": "cubic",
    "Capacity": "capacity",
    "Copa": "copa",
    "Random": "random",
    "Vegas": "vegas",
    "Vivace": "vivace",
}

__all__ = [
    "AIMD",
    "BBR",
    "CUBIC",
    "Aurora",
    "AuroraSampled",
    "Capacity",
    "Copa",
    "Random",
    "Vegas",
    "Vivace",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
