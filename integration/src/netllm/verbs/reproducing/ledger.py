"""The ledger: what was found, each finding in the terms of what made it.

A folder per row with a file per contender, which holds an entry per setting: the result with the
values of every episode, the command, and the versions, machine and data that made it. An entry
answers for a contender if its key is the same: the digest of what is tested, where, and on which
data. Versions are no part of it; the report marks entries of others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from netllm.report.report import save_document
from netllm.report.result import Result

MOST_BYTES = 1 << 28


class Entry(msgspec.Struct, kw_only=True):
    """What was found of a contender in a setting."""

    key: str
    command: str
    """What repeats it."""
    made: dict[str, Any]
    """Versions, machine, time, sources of the data, seconds."""
    result: Result | None = None
    notes: tuple[str, ...] = ()
    failed: str = ""
    """Why there is no result."""


class _File(msgspec.Struct):
    entries: dict[str, Entry]


def key_of(**what: Any) -> str:
    """The digest of what is tested, where and on which data."""
    text = msgspec.json.encode(what, order="sorted")
    return hashlib.sha256(text).hexdigest()[:16]


class Ledger:
    """Entries in a folder.

    Args:
        folder: may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, row: str, label: str, setting: str, key: str) -> Entry | None:
        """The entry with this key, if there is one.

        Raises:
            ValueError: naming the file, if it is damaged.
        """
        entry = self.entries(row, label).get(setting)
        return entry if entry is not None and entry.key == key else None

    def entries(self, row: str, label: str) -> Mapping[str, Entry]:
        """What is kept of a contender, by setting, whatever the data.

        Raises:
            ValueError: naming the file, if it is damaged.
        """
        path = self._path(row, label)
        return _entries(path, path.stat().st_mtime_ns) if path.is_file() else {}

    def seconds(self, row: str, setting: str, *, models: bool) -> list[float]:
        """What testing each model, or each policy, of a row took in a setting."""
        names = sorted(path.stem for path in (self._folder / row).glob("*.json"))
        results = [one.result for name in names if (one := self.entries(row, name).get(setting))]
        return [
            one.seconds for one in results if one is not None and bool(one.checkpoint) is models
        ]

    def add(self, row: str, label: str, entries: Mapping[str, Entry]) -> None:
        """Keep entries by setting, in the place of others of the same settings."""
        documents = {
            setting: {
                **msgspec.structs.asdict(entry),
                "result": entry.result and numbers_alone(entry.result.document()),
            }
            for setting, entry in {**self.entries(row, label), **entries}.items()
        }
        save_document({"entries": documents}, self._path(row, label))

    def _path(self, row: str, label: str) -> Path:
        return self._folder / row / f"{label}.json"


@lru_cache(maxsize=512)
def _entries(path: Path, stamp: int) -> Mapping[str, Entry]:
    """Read once; `stamp` tells a rewritten file from the one read before."""
    from netllm_adapt.files.reading import read_json

    entries = read_json(path, _File, most_bytes=MOST_BYTES).entries
    for setting, entry in entries.items():
        lacking = [f"made.{name}" for name in ("versions", "made_at") if not entry.made.get(name)]
        lacking += [] if entry.result or entry.failed else ["result, or why it failed"]
        if lacking:
            raise ValueError(
                f"{path}: the entry {setting!r} must hold {lacking[0]}. Delete the entry, or the "
                "file, to have it made anew."
            )
    return entries


def numbers_alone(document: dict[str, Any]) -> dict[str, Any]:
    """A result's document with numbers and names only in its episodes; series are for plots."""
    rows = [
        {key: value for key, value in row.items() if isinstance(value, str | float | int | dict)}
        for row in document["episodes"]
    ]
    return {**document, "episodes": rows}
