"""Where the episodes of a pool come from: `_provenance.json` beside its shards."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated, Any

import msgspec

from netllm_adapt.files.reading import read_json

# Readers of Parquet folders (pandas, pyarrow) pass over names that begin with an underscore.
PROVENANCE = "_provenance.json"


class Collection(msgspec.Struct):
    """What is said of a collection; it may say more."""

    setting: Any
    first_shard: Annotated[str, msgspec.Meta(pattern=r"^(shard-\d+\.parquet)?$")] = ""
    episodes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """How many are planned."""
    policies: list[str] = []
    relabel: str | None = None
    overrides: dict[str, Any] = {}
    data: str = ""


class _Provenance(msgspec.Struct):
    """Where a pool's episodes are from."""

    collections: list[Collection]
    task: str = ""


def read_provenance(path: Path) -> dict[str, Any]:
    """What a pool says of itself; nothing, if it says nothing.

    Raises:
        ValueError: naming the file, if it holds something else.
    """
    if not (path.exists() or path.is_symlink()):
        return {}
    read_json(path, _Provenance)  # which drops what a collection says beyond the known
    return read_json(path)


def check_collection(facts: Mapping[str, Any]) -> None:
    """Raise unless the facts are ready for JSON, and known fields have their type."""
    as_json("`setting` and `provenance`", facts)
    try:
        msgspec.convert(facts, Collection)
    except msgspec.ValidationError as error:
        raise ValueError(f"`provenance` must say what is known, but: {error}.") from error


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
    """The value as JSON; an error names `what`."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be ready for JSON, but {error}.") from error
