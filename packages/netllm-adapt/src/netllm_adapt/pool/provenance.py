"""Where the episodes of a pool come from: `_provenance.json` beside its shards."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from netllm_adapt.reading import read_json

# Readers of Parquet folders (pandas, pyarrow) pass over names that begin with an underscore.
PROVENANCE = "_provenance.json"


def read_provenance(path: Path) -> dict[str, Any]:
    """What a pool says of itself; nothing, if it says nothing.

    Raises:
        ValueError: naming the file, if it holds something else.
    """
    if not path.exists():
        return {}
    about = read_json(path)
    collections = about.get("collections")
    if not (
        isinstance(collections, list)
        and all(isinstance(one, dict) and "setting" in one for one in collections)
    ):
        raise ValueError(
            f"{path}: `collections` must be a list of objects with a `setting` each, got "
            f"{collections!r}. Restore the file, or move it away: the episodes stay usable."
        )
    return about


def environment() -> dict[str, Any]:
    """When and with what a collection starts."""
    packages = {
        d.name: d.version
        for d in distributions()
        if d.name.startswith("netllm") or d.name in ("numpy", "pyarrow")
    }
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items())),
    }


def as_json(what: str, value: Any) -> str:
    """The value as JSON.

    Raises:
        ValueError: naming `what`, if it is not ready for it.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be ready for JSON, but {error}.") from error
