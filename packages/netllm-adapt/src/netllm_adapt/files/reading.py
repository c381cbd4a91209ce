"""JSON that a stranger wrote or a disk damaged: bounded, checked by a schema, never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

MOST_BYTES = 16_777_216
"""Of one JSON file; what this package writes is a few kB."""

T = TypeVar("T")


@overload
def read_json(path: Path, *, most_bytes: int = ...) -> dict[str, Any]: ...
@overload
def read_json(path: Path, kind: type[T], *, most_bytes: int = ...) -> T: ...
def read_json(path: Path, kind: Any = dict[str, Any], *, most_bytes: int = MOST_BYTES) -> Any:
    """What a JSON file holds, as `kind`.

    Args:
        path: the file.
        kind: what it must hold: a `msgspec.Struct`, or any type that msgspec knows; an object.
        most_bytes: its largest size.

    Raises:
        ValueError: naming the file, and the line or field, if it is no regular file, too large, or
            holds something else: bytes that are no text, NaN, numbers or nesting out of all bounds.
        FileNotFoundError: if it is not there.
    """
    return decode_json(read_bounded(path, most_bytes), kind, name=str(path))


def check_regular(path: Path) -> None:
    """Raise unless a path, if anything is there, is a regular file.

    Raises:
        ValueError: naming it, if it is a folder, a pipe or a device.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: must be a regular file, got a folder, a pipe or a device.")


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises:
        ValueError: naming the file, if it is larger, or a folder, a pipe or a device.
        FileNotFoundError: if it is not there.
    """
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(
            f"{path}: must have at most {most_bytes:,} bytes, got {path.stat().st_size:,}. Is it "
            "another file than its name says?"
        )
    return content


def decode_json(content: bytes | str, kind: Any, *, name: str, line: int = 1) -> Any:
    """What some JSON holds, as `kind`.

    Args:
        content: the JSON.
        kind: what it must hold, a type that msgspec knows.
        name: of the file, for errors.
        line: where the content begins in the file.

    Raises:
        ValueError: naming the file, and line or field, if it holds something else.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{name}:{line}: must hold {_named(kind)}, but: {error}. Take the file as it was saved."
        ) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{name}:{line + _lines(content, error)}: not valid JSON ({error}). Take the file as "
            "it was saved."
        ) from error


class _Version(msgspec.Struct):
    """An object with its `version`."""

    version: int = 0


def check_version(content: bytes, newest: int, *, name: str) -> int:
    """The version that some JSON says to have, if it is known here.

    Raises:
        ValueError: naming the file, if it is a newer one.
    """
    version: int = decode_json(content, _Version, name=name).version
    if version > newest:
        raise ValueError(
            f"{name}: written by a newer netllm-adapt (format {version}, this one reads up to "
            f"{newest}). Run: python -m pip install --upgrade netllm-adapt"
        )
    return version


def first_line(error: BaseException) -> str:
    """The first line of what a library's error says, without its stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _named(kind: Any) -> str:
    described = isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__doc__
    if not described:
        return "a JSON object"
    first = described.splitlines()[0].rstrip(".")
    return first[:1].lower() + first[1:]


def _lines(content: bytes | str, error: Exception) -> int:
    """How many lines lie before the byte that msgspec complains of."""
    _, tells, byte = str(error).rpartition("(byte ")
    raw = content.encode() if isinstance(content, str) else content
    return raw.count(b"\n", 0, int(byte.rstrip(")"))) if tells else 0


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """The shapes of the tensors in a safetensors file, by name; its header alone is read.

    Raises:
        ValueError: naming the file, if it is none, cut off, or not there.
    """
    from safetensors import SafetensorError, safe_open

    check_regular(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path}: must be a whole safetensors file, but: {error!s:.200}. Copy it again."
        ) from error
