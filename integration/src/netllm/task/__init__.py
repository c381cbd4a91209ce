"""What a task is, and what `rl_collect`, `adapt` and `test` work with.

`netllm.task("abr")` is a call too, that of `netllm.registry.task`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from netllm.report.metric import Metric
from netllm.task.base import (
    Draw,
    Outcome,
    Policy,
    Setting,
    Task,
    clusters,
    training_fields,
)

__all__ = [
    "Draw",
    "Metric",
    "Outcome",
    "Policy",
    "Setting",
    "Task",
    "clusters",
    "training_fields",
]


class _Callable(ModuleType):
    """This package, which hides the function of its name once it is imported."""

    def __call__(self, name: str) -> Task:
        found: Task = import_module("netllm.registry").task(name)
        return found


sys.modules[__name__].__class__ = _Callable
