"""What a result, a pool or a checkpoint was made with."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from netllm.data import sources

_PACKAGES = (
    *("netllm", "netllm-sims", "netllm-baselines", "netllm-encoders", "netllm-heads"),
    *("netllm-adapt", "numpy", "torch", "transformers", "peft"),
)


def provenance(**facts: Any) -> dict[str, Any]:
    """The given facts with versions, machine type and time."""
    return {
        **facts,
        "versions": {name: found for name in _PACKAGES if (found := installed_version(name))},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device_name(asked: str) -> str:
    """Where models compute, such as `cuda`, when `asked` may be `auto`."""
    from netllm_adapt.device import resolve_device

    return str(resolve_device(asked))


def command_line() -> str:
    """The command that runs, as what it makes may tell it: of absolute paths the name."""

    def last(piece: str) -> str:
        hidden = piece.startswith("~") or Path(piece).is_absolute()
        return Path(piece).name or piece if hidden else piece

    words = [
        word if "://" in word else "".join(map(last, re.split(r"([=:,])", word)))
        for word in sys.argv[1:]
    ]
    return shlex.join(["netllm", *words])


def running_command() -> str | None:
    """The command that runs, as `command_line` has it; None within another program."""
    program = Path(sys.argv[0])
    is_ours = program.name in ("netllm", "netllm.exe")
    return command_line() if is_ours or program.parts[-2:] == ("netllm", "__main__.py") else None


def nameable(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overridden fields of a setting as a checkpoint may tell them: of folders and files the name.

    Where they lie is nobody's business, and differs from machine to machine.
    """
    return {field: _named(value) for field, value in overrides.items()}


def _named(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_named(one) for one in value]
    if isinstance(value, Path) or (isinstance(value, str) and value):
        return Path(value).name or Path(value).resolve().name
    return value


def facts_of(
    task: str,
    setting: Any,
    collections: Sequence[Mapping[str, Any]],
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """What a checkpoint says of its making: setting, data, teachers, command, versions.

    Args:
        task: the task's name.
        setting: where it is validated.
        collections: of the pool that it learned from, as the pool tells them.
        overrides: fields of the setting that are overridden.
    """
    drivers = [name for one in collections for name in one.get("policies", [])]
    teachers = [
        name
        for one in collections
        for name in ([one["relabel"]] if one.get("relabel") else one.get("policies", []))
    ]
    made_with = provenance()
    return {
        "task": task,
        "setting": setting.name,
        "overrides": nameable(overrides),
        "data": sources.described(setting),
        **({"own data": own} if (own := sources.own(setting)) else {}),
        "teachers": list(dict.fromkeys(teachers)),
        "collected by": list(dict.fromkeys(drivers)),
        "pool": "; ".join(_summary(one) for one in collections),
        "command": running_command(),
        **made_with,
        "versions": ", ".join(f"{name} {one}" for name, one in made_with["versions"].items()),
    }


def _summary(collection: Mapping[str, Any]) -> str:
    """How a part of the pool was collected, in the words of `netllm rl-collect`."""
    names = ("relabel", "soft", "epsilon", "best_of", "seed", "overrides")
    told = {**collection, "overrides": nameable(collection.get("overrides", {}))}
    return ", ".join(f"{name} {told[name]}" for name in names if name in collection)


def installed_version(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
