"""What a checkpoint says of its making, as far as a test depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from netllm_adapt.checkpoint.config import DataIdentity

from netllm import registry

T = TypeVar("T")


class Facts(msgspec.Struct):
    """Those of one checkpoint."""

    task: str | None = None
    setting: str | None = None
    """Where it was validated."""
    teachers: list[str] = []
    """The policies that it learned from."""
    overrides: dict[str, Any] = {}
    """The fields of its setting that it was adapted with."""
    identity: DataIdentity | None = None
    """What its data were, and digests of what it learned from and validated on."""


def read_facts(task: str, folder: Path) -> Facts:
    """The facts of a checkpoint of a task.

    Raises:
        ValueError: naming file and field, if it is no checkpoint, is of another task, or a fact or
            what it needs to decide (the task's `State`) is not what it must be.
    """
    from netllm_adapt.checkpoint.config import read_config

    config = read_config(folder)
    path = folder / "config.json"
    facts = _converted(config.about, Facts, "about", path)
    if facts.task not in (None, task):
        raise ValueError(f"{path}: the checkpoint was adapted to {facts.task}, not to {task}.")
    _converted(config.state, registry.task(task).State, "state", path)
    return msgspec.structs.replace(facts, identity=config.identity)


def _converted(values: Mapping[str, Any], kind: type[T], name: str, path: Path) -> T:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        told = str(error).replace("`$", f"`{name}")
        raise ValueError(f"{path}: {told}. Take config.json as it was saved.") from error
