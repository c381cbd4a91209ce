"""Language models for networking: RL_Collect, Adapt, Test.

The three verbs are functions here and commands of the `netllm` program. Names are looked up on
first use, so that importing this package loads neither torch nor a simulator.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm.registry import policies, policy, task, tasks
    from netllm.report.result import Report
    from netllm.task import Policy, Task
    from netllm.verbs.adapt import adapt
    from netllm.verbs.collect import rl_collect
    from netllm.verbs.test import test

_HOMES = {
    "Policy": "task",
    "Report": "report.result",
    "Task": "task",
    "adapt": "verbs.adapt",
    "policies": "registry",
    "policy": "registry",
    "rl_collect": "verbs.collect",
    "task": "registry",
    "tasks": "registry",
    "test": "verbs.test",
}

__all__ = [
    "Policy",
    "Report",
    "Task",
    "adapt",
    "policies",
    "policy",
    "rl_collect",
    "task",
    "tasks",
    "test",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"netllm.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'netllm' has no attribute {name!r}")
