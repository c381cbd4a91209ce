"""`netllm list`."""

from __future__ import annotations

import dataclasses
import sys

from netllm import registry
from netllm.adapting import DEFAULT_BACKBONE


def show(*task: str) -> int:
    """Installed tasks, their settings and policies, and the recipe for the default backbone.

    Args:
        task: Only these tasks.
    """
    for name in task or registry.tasks():
        try:
            found = registry.task(name)
        except ValueError as error:  # another package's fault hides no other task
            if task:
                raise
            print(f"{name}: {error}", file=sys.stderr)
            continue
        print(f"{name}: measured by {found.metrics[0].key}")
        for setting, text in found.settings().items():
            print(f"  setting {setting}: {text}")
        print(f"  policies: {', '.join(registry.policies(name))}")
        print(f"  train-baseline: {', '.join(found.trainers)}")
        fields = dataclasses.asdict(found.recipe(DEFAULT_BACKBONE)).items()
        print(f"  recipe: {', '.join(f'{key}={value}' for key, value in fields)}")
    return 0
