"""Where a checkpoint is tested unless somebody says otherwise: where it was adapted."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netllm.data import sources
from netllm.deciders.policy_spec import PolicySpec
from netllm.task import Task, training_fields


@dataclass(frozen=True)
class World:
    """Where policies and checkpoints are tested."""

    places: Sequence[Any]
    """The settings."""
    overrides: Mapping[str, Any]
    """Fields of the settings to override."""
    notes: Sequence[str] = field(default_factory=tuple)
    """What of it comes from the checkpoints."""


def world_of(
    task: Task,
    specs: Sequence[PolicySpec],
    settings: Sequence[str],
    overrides: Mapping[str, Any],
    data: str | Path | None,
) -> World:
    """The settings and overrides of a test.

    Where no setting is named, those of the checkpoints: their setting, and the overrides that they
    were adapted with, under those of the command. If they differ among themselves, none applies.

    Args:
        task: makes the settings.
        specs: who is tested.
        settings: as named by the command.
        overrides: as given by the command.
        data: folder of real data; NETLLM_DATA if None.

    Raises:
        ValueError: if a checkpoint's own data must be given.
    """
    checkpoints = [one for one in specs if one.checkpoint is not None]
    if settings or not checkpoints:
        places = [task.setting(name, data=data, **overrides) for name in settings or ["default"]]
        return World(places, overrides)
    worlds = [adapted_in(task, one, overrides, data) for one in checkpoints]
    name, own = worlds[0]
    note = ""
    if any(other != worlds[0] for other in worlds):
        told = ", ".join(str(one.checkpoint) for one in checkpoints)
        note = (
            f"{told} were not adapted in one and the same setting, so they are tested in "
            "default. Name another with --setting, and its fields with --set."
        )
        name, own = "default", {}
    elif name != "default" or own:
        given = " ".join(f"{key}={value}" for key, value in own.items())
        note = (
            f"Tested where {checkpoints[0].checkpoint} was adapted, in {name}"
            + (f" with its own --set {given}" if given else "")
            + ". Name a setting with --setting to test elsewhere."
        )
    whole = {**own, **overrides}
    return World([task.setting(name, data=data, **whole)], whole, [note] if note else [])


def adapted_in(
    task: Task,
    checkpoint: PolicySpec,
    given: Mapping[str, Any],
    data: str | Path | None,
    *,
    trains: bool = False,
) -> tuple[str, dict[str, Any]]:
    """A checkpoint's setting, and its overrides that the command does not give.

    Args:
        task: makes the settings.
        checkpoint: says where it was adapted.
        given: the command's own overrides.
        data: folder of real data; NETLLM_DATA if None.
        trains: whether fields that act on training alone are wanted too.
    """
    name = checkpoint.facts.setting or "default"
    own = {
        key: _found(checkpoint, name, key, value)
        for key, value in checkpoint.facts.overrides.items()
        if key not in given
    }
    if trains or not own:
        return name, own
    untested = training_fields(task.setting(name, data=data, **{**own, **given}))
    return name, {key: value for key, value in own.items() if key not in untested}


def trained_in(
    task: Task,
    checkpoint: PolicySpec,
    setting: str | None,
    given: Mapping[str, Any],
    data: str | Path | None,
) -> tuple[str, dict[str, Any]]:
    """Where a checkpoint is trained further, and the fields to override: its own unless given.

    Args:
        task: makes the settings.
        checkpoint: says where it was adapted.
        setting: as named by the command, if it was.
        given: the command's own overrides.
        data: folder of real data; NETLLM_DATA if None.
    """
    if setting is not None:
        return setting, dict(given)
    name, own = adapted_in(task, checkpoint, given, data, trains=True)
    return name, {**own, **given}


def _found(checkpoint: PolicySpec, setting: str, key: str, value: Any) -> Any:
    """The value of an override; of a person's own data the folder or file here, of that name.

    Raises:
        ValueError: if there is none: a checkpoint does not tell where its data lie.
    """
    identity = checkpoint.facts.identity
    kept = sources.read(identity.sources if identity else [])
    own = next((one for one in kept if one.origin == "own" and one.name == value), None)
    if own is None:
        return value
    here = checkpoint.home / str(value)
    if here.exists():
        return str(here)
    raise ValueError(
        f"{checkpoint.checkpoint} was adapted on {own.kind} {own}, which must be given, as a "
        f"checkpoint does not tell where data lie: --set {key}=PATH. To test it elsewhere, name "
        f"the setting, such as --setting {setting}."
    )


def test_command(
    task: str, checkpoint: Path, overrides: Mapping[str, Any], data: Path | None
) -> str:
    """The command that tests a new checkpoint where it was adapted.

    The checkpoint knows its setting and its overrides, but not where folders and files lie.

    Args:
        task: the task's name.
        checkpoint: folder of the run.
        overrides: what it was adapted with.
        data: folder of real data, if the command named one.
    """
    words = ["netllm", "test", task, "--checkpoint", str(checkpoint)]
    if data is not None and str(data) != os.environ.get("NETLLM_DATA"):
        words += ["--data", str(data)]
    for key, value in overrides.items():
        if isinstance(value, str | Path) and Path(value).expanduser().exists():
            words += ["--set", f"{key}={value}"]
    return shlex.join(words)
