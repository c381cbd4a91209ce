"""JSON of a user's files; what is too deep, or no number to compute with, is refused."""

import json
import re
from math import isinf
from pathlib import Path
from typing import Any, TypeVar

from netllm_sims.files import reading

MOST_DEPTH = 100
"""Lists and objects within one another."""
MOST_DIGITS = 19
"""Digits of a whole number; 64 bits have no more."""

Kind = TypeVar("Kind")


def read_json(path: str | Path, *, most_mb: int = reading.MOST_WHOLE_MB) -> Any:
    """Content of a JSON file, perhaps packed; raises as `reading.opened` and `parse_json` do."""
    return parse_json(reading.read_bytes(path, most_mb=most_mb), path)


def decode_json(
    path: str | Path, kind: type[Kind], *, most_mb: int = reading.MOST_WHOLE_MB
) -> Kind:
    """Content of a JSON file as what `kind` describes, such as a `msgspec.Struct`.

    Raises:
        ValueError: As `reading.opened` does, or the content is no such JSON; with file and line, or
            with the place in the document.
    """
    import msgspec

    content = reading.text(reading.read_bytes(path, most_mb=most_mb), path)
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError:
        raise _deep(path, 1, content) from None
    except msgspec.ValidationError as fault:
        raise ValueError(f"{path}: {_sentence(str(fault))} Correct the file.") from None
    except msgspec.DecodeError as fault:
        place = re.search(r" \(byte (\d+)\)", str(fault))
        at = int(place[1]) if place else len(content)
        line = content.encode()[:at].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: must be JSON: {fault}. Correct the file.") from None


def parse_json(content: bytes, where: object, *, line: int = 1) -> Any:
    """Value of a JSON text.

    Args:
        content: The text in UTF-8.
        where: The file, for errors.
        line: Number of the content's first line.

    Raises:
        ValueError: No JSON or other bytes than UTF-8; NaN, infinity or a number beyond the range of
            64 bits; or more than `MOST_DEPTH` lists and objects within one another; with file and
            line.
    """
    text = reading.text(content, where, line=line)
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise _deep(where, line, text) from None
    except json.JSONDecodeError as fault:
        raise ValueError(
            f"{where}:{line + fault.lineno - 1}: must be JSON, got "
            f"{text[fault.pos : fault.pos + 40]!r} at column {fault.colno}: {fault.msg}. Was the "
            "file cut?"
        ) from None
    except _Odd as fault:
        at = max(text.find(fault.text), 0)
        raise ValueError(
            f"{where}:{line + text.count(chr(10), 0, at)}: numbers must be finite and of at most "
            f"{MOST_DIGITS} digits, got {fault.text[:40]!r}. Correct the file."
        ) from None
    if text.count("[") + text.count("{") > MOST_DEPTH and _depth(value) > MOST_DEPTH:
        raise _deep(where, line, text)
    return value


class _Odd(Exception):
    """A number that is refused."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS + 1:
        raise _Odd(text)
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise _Odd(text)
    return value


def _constant(text: str) -> float:
    raise _Odd(text)


_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_real, parse_constant=_constant)


def _depth(value: object) -> int:
    """Levels of lists and objects within one another, counted no further than one too many."""
    level, depth = [value], 0
    while level and depth <= MOST_DEPTH:
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += [item for item in one.values() if isinstance(item, dict | list)]
            elif isinstance(one, list):
                inner += [item for item in one if isinstance(item, dict | list)]
        level, depth = inner, depth + 1
    return depth


def _deep(where: object, line: int, text: str) -> ValueError:
    depth = 0
    for mark in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark[0], 0)
        if depth > MOST_DEPTH:
            line += text.count("\n", 0, mark.start())
            break
    return ValueError(
        f"{where}:{line}: at most {MOST_DEPTH} lists and objects may lie within one another, got "
        "more. Correct the file."
    )


def _sentence(message: str) -> str:
    """The words of msgspec for a value of another kind, with the place first."""
    text, _, place = message.partition(" - at ")
    return f"at {place.strip('`')}: {text}." if place else f"{text}."
