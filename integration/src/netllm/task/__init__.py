"""What a task is, and what `rl_collect`, `adapt` and `test` work with.

`netllm.task("abr")` is a call too, that of `netllm.registry.task`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from netllm.report.metric import Metric
from netllm.task.base import DEFAULT_BACKBONE, Draw, Outcome, Task, state_of
from netllm.task.observation_fields import ObservationField
from netllm.task.policy import Declared, Policy, asked, declared, validity
from netllm.task.pool import PoolTask
from netllm.task.setting import Setting, training_fields
from netllm.task.supervised import SupervisedTask

if TYPE_CHECKING:
    from netllm_sims.rollout import Environment

__all__ = [
    "DEFAULT_BACKBONE",
    "Declared",
    "Draw",
    "Environment",
    "Metric",
    "ObservationField",
    "Outcome",
    "Policy",
    "PoolTask",
    "Setting",
    "SupervisedTask",
    "Task",
    "asked",
    "declared",
    "state_of",
    "training_fields",
    "validity",
]


def __getattr__(name: str) -> Any:
    if name == "Environment":  # of a package that loads NumPy
        return import_module("netllm_sims.rollout").Environment
    raise AttributeError(f"module 'netllm.task' has no attribute {name!r}")


class _Callable(ModuleType):
    """This package, which hides the function of its name once it is imported."""

    def __call__(self, name: str) -> Task:
        found: Task = import_module("netllm.registry").task(name)
        return found


sys.modules[__name__].__class__ = _Callable
