"""Where a checkpoint is tested unless somebody says otherwise: where it was adapted."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netllm.data import sources
from netllm.task import training_fields
from netllm.verbs.policy_spec import PolicySpec

Build = Callable[[str, Mapping[str, Any]], Any]
"""Makes a setting of its name and the fields to override."""


@dataclass(frozen=True)
class World:
    """Where policies and checkpoints are tested."""

    settings: Sequence[str]
    """Names of the settings."""
    overrides: Mapping[str, Any]
    """Fields of the settings to override."""
    notes: Sequence[str] = field(default_factory=tuple)
    """What of it comes from the checkpoints."""


def world_of(
    contenders: Sequence[PolicySpec],
    settings: Sequence[str],
    overrides: Mapping[str, Any],
    build: Build,
) -> World:
    """The settings and overrides of a test.

    Where no setting is named, those of the checkpoints: their setting, and the overrides that they
    were adapted with, under those of the command. If they differ among themselves, none applies.

    Args:
        contenders: who is tested.
        settings: as named by the command.
        overrides: as given by the command.
        build: makes a setting.

    Raises:
        ValueError: if a checkpoint's own data must be given.
    """
    checkpoints = [one for one in contenders if one.checkpoint is not None]
    if settings or not checkpoints:
        return World(settings or ["default"], overrides)
    worlds = [_own(one, overrides, build) for one in checkpoints]
    name, own = worlds[0]
    if any(other != worlds[0] for other in worlds):
        names = ", ".join(str(one.checkpoint) for one in checkpoints)
        return World(
            ["default"],
            overrides,
            [
                f"{names} were not adapted in one and the same setting, so they are tested in "
                "default. Name another with --setting, and its fields with --set."
            ],
        )
    if name == "default" and not own:
        return World([name], overrides)
    given = " ".join(f"{key}={value}" for key, value in own.items())
    return World(
        [name],
        {**own, **overrides},
        [
            f"Tested where {checkpoints[0].checkpoint} was adapted, in {name}"
            + (f" with its own --set {given}" if given else "")
            + ". Name a setting with --setting to test elsewhere."
        ],
    )


def _own(
    checkpoint: PolicySpec, given: Mapping[str, Any], build: Build
) -> tuple[str, dict[str, Any]]:
    """A checkpoint's setting, and its overrides that the command does not give."""
    name = checkpoint.setting()
    own = {key: value for key, value in checkpoint.overrides().items() if key not in given}
    own = {key: _found(checkpoint, name, key, value) for key, value in own.items()}
    untested = training_fields(build(name, {**own, **given})) if own else frozenset()
    return name, {key: value for key, value in own.items() if key not in untested}


def _found(checkpoint: PolicySpec, setting: str, key: str, value: Any) -> Any:
    """The value of an override; of a person's own data the folder or file here, of that name.

    Raises:
        ValueError: if there is none: a checkpoint does not tell where its data lie.
    """
    identity = checkpoint.identity()
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
