"""Language models for networking: RL_Collect, Adapt, Improve, Distil, Test.

The verbs are functions here and commands of the `netllm` program. Names are looked up on
first use, so that importing this package loads neither torch nor a simulator.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm.registry import policies as policies
    from netllm.registry import policy as policy
    from netllm.registry import task as task
    from netllm.registry import tasks as tasks
    from netllm.report.report import Report as Report
    from netllm.task import Policy as Policy
    from netllm.task import Task as Task
    from netllm.verbs.adapt import adapt as adapt
    from netllm.verbs.collect import rl_collect as rl_collect
    from netllm.verbs.distil import distil as distil
    from netllm.verbs.explain import explain as explain
    from netllm.verbs.improve import improve as improve
    from netllm.verbs.plan import plan as plan
    from netllm.verbs.ray_workers import on_ray as on_ray
    from netllm.verbs.reproduce import reproduce as reproduce
    from netllm.verbs.sweep import sweep as sweep
    from netllm.verbs.test import test as test

_HOMES = {
    "Policy": "task",
    "Report": "report.report",
    "Task": "task",
    "adapt": "verbs.adapt",
    "distil": "verbs.distil",
    "explain": "verbs.explain",
    "improve": "verbs.improve",
    "on_ray": "verbs.ray_workers",
    "plan": "verbs.plan",
    "policies": "registry",
    "policy": "registry",
    "reproduce": "verbs.reproduce",
    "rl_collect": "verbs.collect",
    "sweep": "verbs.sweep",
    "task": "registry",
    "tasks": "registry",
    "test": "verbs.test",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"netllm.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'netllm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
