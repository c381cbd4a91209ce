"""What a result or a pool was made with."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
