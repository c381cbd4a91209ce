"""What a task is, and what `rl_collect`, `adapt` and `test` work with."""

from netllm.task.base import (
    Draw,
    Metric,
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
