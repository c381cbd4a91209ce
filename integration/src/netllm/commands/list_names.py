"""`netllm list`."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from netllm import registry
from netllm.commands.options import Output
from netllm.commands.printed_answer import Answer

_log = logging.getLogger(__name__)


def show(*task: str, output: Output = Output()) -> Answer:
    """Installed tasks, their settings and policies, and the recipe for the default backbone.

    Args:
        task: Only these tasks.
    """
    known: dict[str, dict[str, Any]] = {}
    for name in task or registry.tasks():
        try:
            known[name] = _described(name)
        except ValueError as error:  # another package's fault hides no other task
            if task:
                raise
            _log.warning("%s: %s", name, error)
    return Answer({"tasks": known}, "\n".join(_text(*one) for one in known.items()))


def _described(name: str) -> dict[str, Any]:
    found = registry.task(name)
    return {
        "metric": found.metrics[0].key,
        "settings": dict(found.settings()),
        "policies": registry.policies(name),
        "train-baseline": list(found.trainers),
        "recipe": dataclasses.asdict(found.recipe()),
    }


def _text(name: str, about: dict[str, Any]) -> str:
    recipe = (f"{key}={value}" for key, value in about["recipe"].items())
    return "\n".join(
        [
            f"{name}: measured by {about['metric']}",
            *(f"  setting {setting}: {text}" for setting, text in about["settings"].items()),
            f"  policies: {', '.join(about['policies'])}",
            f"  train-baseline: {', '.join(about['train-baseline'])}",
            f"  recipe: {', '.join(recipe)}",
        ]
    )
