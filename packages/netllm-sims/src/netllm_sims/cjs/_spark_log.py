"""Events of Spark's event logs, with where they stand."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

_ROLLED = re.compile(r"events_(\d+)_.*?(\.compact)?")
_GZIP = b"\x1f\x8b"
_PACKED = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"LZ4Block": "lz4",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x82SNAPPY": "snappy",
    b"ZV": "lzf",
}
"""How files of Spark's codecs begin."""

_TYPES: dict[str, tuple[type, str]] = {
    "Event": (str, "text"),
    "Executor ID": (str, "text"),
    "Job ID": (int, "a whole number >= 0"),
    "Stage ID": (int, "a whole number >= 0"),
    "Number of Tasks": (int, "a whole number >= 0"),
    "Launch Time": (int, "a whole number >= 0"),
    "Finish Time": (int, "a whole number >= 0"),
    "Stage Infos": (list, "a list"),
    "Parent IDs": (list, "a list of whole numbers >= 0"),
    "Stage Info": (dict, "an object"),
    "Task Info": (dict, "an object"),
}


def is_rolled(folder: Path) -> bool:
    """Whether a folder is one log that Spark wrote in several files."""
    return folder.is_dir() and any(_ROLLED.fullmatch(file.name) for file in folder.iterdir())


def events(log: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """File and line, and the event there, of a file or of the files of a rolled log in turn.

    Raises:
        ValueError: A file of the log is missing or compressed other than by gzip, or a line is no
            JSON object with the field `Event`.
    """
    for file in _files(log) if log.is_dir() else [log]:
        yield from _events(file)


def get(where: str, record: object, name: str) -> Any:
    """The field of an event, or of an object within one.

    Args:
        where: File and line.
        record: The event.
        name: The field; its type is looked up.

    Raises:
        ValueError: There is no such field, or it is of another type; with file and line.
    """
    if not isinstance(record, dict) or name not in record:
        got = ", ".join(record) if isinstance(record, dict) else repr(record)
        raise ValueError(
            f"{where}: must hold the field `{name}`, as Spark 2.0 and later write it, got {got}."
        )
    value = record[name]
    kind, what = _TYPES[name]
    numbers = value if name == "Parent IDs" else [value] if kind is int else []
    if not isinstance(value, kind) or not all(map(_natural, numbers)):
        raise ValueError(f"{where}: `{name}` must be {what}, got {value!r:.60}.")
    return value


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _files(folder: Path) -> list[Path]:
    """Files of a rolled log in order; a compact one stands for itself and those before."""
    found: dict[tuple[int, bool], Path] = {}
    for file in sorted(folder.iterdir()):
        if name := _ROLLED.fullmatch(file.name):
            place = int(name[1]), name[2] is not None
            if place in found:
                raise ValueError(
                    f"{folder}: must hold the files of one log, got {found[place].name} and "
                    f"{file.name}. Put each log into a folder of its own."
                )
            found[place] = file
    order = sorted(found)
    start = max((place for place in order if place[1]), default=None)
    kept = order if start is None else order[order.index(start) :]
    wanted = 1 if start is None else start[0]
    for number, _ in kept:
        if number != wanted:
            raise ValueError(
                f"{folder}: must hold all files of the log, but events_{wanted}_… is missing "
                f"before {found[number, False].name}."
            )
        wanted += 1
    return [found[place] for place in kept]


def _events(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with _open(file) as stream:
        line = 0
        try:
            for line, raw in enumerate(stream, start=1):
                yield f"{file}, line {line}", _event(f"{file}, line {line}", raw)
        except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
            raise ValueError(f"{file}: ends or breaks after line {line}: {fault}.") from fault


def _event(where: str, raw: bytes) -> dict[str, Any]:
    try:
        event = json.loads(raw)
        event["Event"]
    except (ValueError, TypeError, KeyError, RecursionError):
        cut = "" if raw.endswith(b"\n") else " The log ends within this line: it was cut."
        raise ValueError(
            f"{where}: must be a JSON object with the field `Event`, got "
            f"{raw[:60].decode(errors='replace')!r}.{cut}"
        ) from None
    get(where, event, "Event")
    return cast(dict[str, Any], event)


def _open(file: Path) -> BinaryIO:
    with file.open("rb") as stream:
        start = stream.read(8)
    for magic, codec in _PACKED.items():
        if start.startswith(magic):
            raise ValueError(
                f"{file}: must be plain or gzipped text, got a log compressed by {codec}. "
                "Decompress it, or write logs with spark.eventLog.compress=false."
            )
    return cast(BinaryIO, gzip.open(file)) if start.startswith(_GZIP) else file.open("rb")
