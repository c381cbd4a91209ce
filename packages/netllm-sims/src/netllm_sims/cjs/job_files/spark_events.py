"""Events of Spark's event logs, read line by line, with where they stand."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import msgspec

from netllm_sims.files import reading
from netllm_sims.files.json_reading import parse_json

_ROLLED = re.compile(r"events_(\d+)_.*?(\.compact)?")
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
_Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class _Named(msgspec.Struct):
    event: str = msgspec.field(name="Event")


class TaskInfo(msgspec.Struct):
    """When and where a task ran."""

    launch_ms: _Natural = msgspec.field(name="Launch Time")
    finish_ms: _Natural = msgspec.field(name="Finish Time")
    executor: str = msgspec.field(name="Executor ID")
    failed: bool = msgspec.field(name="Failed", default=False)
    killed: bool = msgspec.field(name="Killed", default=False)


class TaskEnd(msgspec.Struct):
    """What is read of `SparkListenerTaskEnd`, by far the most frequent event."""

    stage: _Natural = msgspec.field(name="Stage ID")
    info: TaskInfo = msgspec.field(name="Task Info")


_NAMED, _TASK_END = msgspec.json.Decoder(_Named), msgspec.json.Decoder(TaskEnd)
_UNREAD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Line(NamedTuple):
    """A line of a log."""

    file: Path
    number: int
    event: str
    """Kind of the event."""
    content: bytes

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}, line {self.number}"

    def fields(self) -> dict[str, Any]:
        """All that the line holds.

        Raises:
            ValueError: It is no JSON, or nested too deep, or with numbers that are none.
        """
        event = parse_json(self.content, self.file, line=self.number)
        return cast(dict[str, Any], event)

    def task_end(self) -> TaskEnd:
        """The line as the end of a task.

        Raises:
            ValueError: A field is missing or of another type, with file and line.
        """
        try:
            return _TASK_END.decode(self.content)
        except _UNREAD:
            return self._task_end()

    def _task_end(self) -> TaskEnd:
        event, where = self.fields(), self.where
        number, info = (get(where, event, name) for name in ("Stage ID", "Task Info"))
        names = "Launch Time", "Finish Time", "Executor ID"
        launch_ms, finish_ms, executor = (get(where, info, name) for name in names)
        failed, killed = (bool(info.get(name)) for name in ("Failed", "Killed"))
        return TaskEnd(number, TaskInfo(launch_ms, finish_ms, executor, failed, killed))


def is_rolled(folder: Path) -> bool:
    """Whether a folder is one log that Spark wrote in several files."""
    return folder.is_dir() and any(_ROLLED.fullmatch(file.name) for file in folder.iterdir())


def lines(log: Path) -> Iterator[Line]:
    """The lines of a file, or of the files of a rolled log in turn, one in memory at a time.

    Raises:
        ValueError: A file of the log is missing, compressed otherwise than by gzip, bzip2 or xz, or
            larger than `reading` admits, or a line is no JSON object with the field `Event`.
    """
    for file in _files(log) if log.is_dir() else [log]:
        _check_codec(file)
        with reading.opened(file) as stream:
            for number, content in reading.lines(stream, file):
                yield Line(file, number, _kind(file, number, content), content)


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
        got = f"{', '.join(record):.200}" if isinstance(record, dict) else f"{record!r:.60}"
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


def _kind(file: Path, number: int, content: bytes) -> str:
    """The kind of the event in a line, which is not looked at further."""
    try:
        return _NAMED.decode(content).event
    except _UNREAD:
        pass
    where = f"{file}, line {number}"
    cut = "" if content.endswith(b"\n") else " The log ends within this line: it was cut."
    try:
        event = parse_json(content, file, line=number)
    except ValueError as fault:
        raise ValueError(f"{fault}{cut}") from None
    if not isinstance(event, dict) or "Event" not in event:
        raise ValueError(
            f"{where}: must be a JSON object with the field `Event`, got "
            f"{content[:60].decode(errors='replace')!r}.{cut}"
        )
    return str(get(where, event, "Event"))


def _check_codec(file: Path) -> None:
    with reading.regular(file) as stream:
        start = stream.read(8)
    for magic, codec in _PACKED.items():
        if start.startswith(magic):
            raise ValueError(
                f"{file}: must be plain or gzipped text, got a log compressed by {codec}. "
                "Decompress it, or write logs with spark.eventLog.compress=false."
            )
