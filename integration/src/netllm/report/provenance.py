"""What a result or a pool was made with."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "netllm",
    "netllm-sims",
    "netllm-baselines",
    "netllm-encoders",
    "netllm-heads",
    "netllm-adapt",
    "numpy",
    "torch",
    "transformers",
    "peft",
)


def provenance(**facts: Any) -> dict[str, Any]:
    """The given facts with versions, machine type and time."""
    return {
        **facts,
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
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
    told = [
        word if "://" in word else "".join(map(_last, re.split(r"([=:,])", word)))
        for word in sys.argv[1:]
    ]
    return shlex.join(["netllm", *told])


def running_command() -> str | None:
    """The command that runs, as `command_line` has it; None within another program."""
    program = Path(sys.argv[0])
    is_ours = program.name in ("netllm", "netllm.exe")
    return command_line() if is_ours or program.parts[-2:] == ("netllm", "__main__.py") else None


def _last(piece: str) -> str:
    hidden = piece.startswith("~") or Path(piece).is_absolute()
    return Path(piece).name or piece if hidden else piece


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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
