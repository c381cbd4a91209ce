"""Seeded mutations of bytes, of text and of JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    "NaN", "inf", "-inf", "Infinity", "1e308", "-1e308", "1e400", "9" * 5_000, "-1", "-0.5", "0",
    "-0", "1e-320", "1_000", "0x10", "٣", "", "1e12", "2147483648", "9223372036854775808", "true",
    "null", "1.5.2", "1 000", "1;5", "a",
)  # fmt: skip
"""What stands in for a number of a text."""
_DEEP = 200_000
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**12, "", "1", "x" * 10_000, "../../etc/passwd", [], [1], {},
    {"a": 1}, [[]], "@@NaN@@", "@@Infinity@@", "@@1e400@@", "@@1e308@@", "@@digits@@",
    "@@lists@@", "@@objects@@",
)  # fmt: skip
"""What stands in for a value of JSON; what is between `@@` becomes raw text."""
_RAW = {
    '"@@digits@@"': "9" * 5_000,
    '"@@lists@@"': "[" * _DEEP + "]" * _DEEP,
    '"@@objects@@"': '{"a":' * _DEEP + "1" + "}" * _DEEP,
    **{f'"@@{word}@@"': word for word in ("NaN", "Infinity", "1e400", "1e308")},
}


def _place(content: bytes, rng: random.Random) -> int:
    return rng.randrange(max(len(content), 1))


def flip_bit(content: bytes, rng: random.Random) -> bytes:
    """One bit differs."""
    if not content:
        return b"\0"
    at = _place(content, rng)
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def set_byte(content: bytes, rng: random.Random) -> bytes:
    """One byte is any other."""
    at = _place(content, rng)
    return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    """The end is missing."""
    return content[: _place(content, rng)]


def behead(content: bytes, rng: random.Random) -> bytes:
    """The beginning is missing."""
    return content[_place(content, rng) :]


def empty(content: bytes, rng: random.Random) -> bytes:
    """Nothing is left."""
    return b""


def bad_utf8(content: bytes, rng: random.Random) -> bytes:
    """Bytes that are no UTF-8 stand somewhere."""
    at = _place(content, rng)
    return content[:at] + rng.choice((b"\xff", b"\xc3\x28", b"\xed\xa0\x80")) + content[at:]


def noise(content: bytes, rng: random.Random) -> bytes:
    """Random bytes follow."""
    return content + rng.randbytes(rng.randrange(1, 50))


def zeros(content: bytes, rng: random.Random) -> bytes:
    """A stretch is zero, as after a crash."""
    at = _place(content, rng)
    length = rng.randrange(1, 64)
    return content[:at] + bytes(min(length, len(content) - at)) + content[at + length :]


def twice(content: bytes, rng: random.Random) -> bytes:
    """All of it is there again."""
    return content + content


OF_BYTES: dict[str, Mutator] = {
    f.__name__: f for f in (flip_bit, set_byte, cut, behead, empty, bad_utf8, noise, zeros, twice)
}


def _lines(change: Callable[[list[str], int, random.Random], None]) -> Mutator:
    def run(content: bytes, rng: random.Random) -> bytes:
        lines = content.decode("utf-8", "surrogateescape").split("\n")
        change(lines, rng.randrange(len(lines)), rng)
        return "\n".join(lines).encode("utf-8", "surrogateescape")

    return run


def _remove_line(lines: list[str], at: int, rng: random.Random) -> None:
    del lines[at]


def _repeat_line(lines: list[str], at: int, rng: random.Random) -> None:
    lines.insert(rng.randrange(len(lines) + 1), lines[at])


def _swap_lines(lines: list[str], at: int, rng: random.Random) -> None:
    other = rng.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]


def _add_line(lines: list[str], at: int, rng: random.Random) -> None:
    lines.insert(at, rng.choice(("", "  ", "# a comment", "x", ",", "\0", '"', "{}", "[]", "-")))


def _cut_line(lines: list[str], at: int, rng: random.Random) -> None:
    lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]


def _quote(lines: list[str], at: int, rng: random.Random) -> None:
    place = rng.randrange(len(lines[at]) + 1)
    lines[at] = lines[at][:place] + rng.choice(('"', "'", '""')) + lines[at][place:]


def _separator(line: str) -> str:
    return next((mark for mark in (",", ";", "\t", " ") if mark in line), ",")


def _cells(change: Callable[[list[str], int, random.Random], None], every: bool) -> Mutator:
    """Change a cell of one line, or the same cell of every line."""

    def run(lines: list[str], at: int, rng: random.Random) -> None:
        mark = _separator(lines[at])
        place = rng.randrange(lines[at].count(mark) + 1)
        state = rng.getstate()
        for number in range(len(lines)) if every else [at]:
            cells = lines[number].split(mark)
            if place < len(cells) and lines[number]:
                rng.setstate(state)
                change(cells, place, rng)
                lines[number] = mark.join(cells)

    return _lines(run)


def _remove_cell(cells: list[str], at: int, rng: random.Random) -> None:
    del cells[at]


def _repeat_cell(cells: list[str], at: int, rng: random.Random) -> None:
    cells.insert(at, cells[at])


def _swap_cells(cells: list[str], at: int, rng: random.Random) -> None:
    cells[at], cells[-1] = cells[-1], cells[at]


def _other_number(cells: list[str], at: int, rng: random.Random) -> None:
    cells[at] = rng.choice(NUMBERS)


def _other_scale(cells: list[str], at: int, rng: random.Random) -> None:
    factor = rng.choice((1e-3, -1, 10, 1e3, 1e6, 1e9))
    try:
        cells[at] = repr(float(cells[at]) * factor)
    except ValueError:
        cells[at] += "x"


def _replaced(old: bytes, new: bytes) -> Mutator:
    return lambda content, rng: content.replace(old, new)


def _other_separator(content: bytes, rng: random.Random) -> bytes:
    mark = rng.choice((b";", b"\t", b" ", b"|", b", ", b",,"))
    return content.replace(_separator(content.decode("latin1")).encode(), mark)


OF_TEXT: dict[str, Mutator] = {
    "remove a line": _lines(_remove_line),
    "repeat a line": _lines(_repeat_line),
    "swap lines": _lines(_swap_lines),
    "add a line": _lines(_add_line),
    "cut a line": _lines(_cut_line),
    "add a quote": _lines(_quote),
    "remove a cell": _cells(_remove_cell, every=False),
    "remove a column": _cells(_remove_cell, every=True),
    "repeat a cell": _cells(_repeat_cell, every=False),
    "repeat a column": _cells(_repeat_cell, every=True),
    "swap cells": _cells(_swap_cells, every=False),
    "swap columns": _cells(_swap_cells, every=True),
    "another number": _cells(_other_number, every=False),
    "another scale": _cells(_other_scale, every=False),
    "a column of another scale": _cells(_other_scale, every=True),
    "another separator": _other_separator,
    "CRLF": _replaced(b"\n", b"\r\n"),
    "CR": _replaced(b"\n", b"\r"),
    "BOM": lambda content, rng: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda content, rng: content.decode("latin1").encode("utf-16"),
    "no last newline": lambda content, rng: content.rstrip(b"\n"),
    "NUL": lambda content, rng: content.replace(b"\n", b"\0\n", 1),
    "one line without an end": lambda content, rng: content + b"9" * 3_000_000,
}


def _nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    return [path, *(node for key, one in inner for node in _nodes(one, (*path, key)))]


def other_json(content: bytes, rng: random.Random) -> bytes:
    """One value, key or element of the document differs, or of one of its lines."""
    lines = content.split(b"\n") if content.count(b"\n{") > 1 else [content]
    at = rng.randrange(len(lines))
    try:
        document = json.loads(lines[at])
    except ValueError:
        return content[: len(content) // 2]
    lines[at] = _other_document(document, rng)
    return b"\n".join(lines)


def _other_document(document: Any, rng: random.Random) -> bytes:
    path = rng.choice(_nodes(document))
    if not path:
        document = rng.choice(_VALUES)
    else:
        holder = document
        for key in path[:-1]:
            holder = holder[key]
        _change(holder, path[-1], rng)
    text = json.dumps(document, ensure_ascii=False)
    for mark, raw in _RAW.items():
        text = text.replace(mark, raw)
    return text.encode("utf-8", "surrogateescape")


def _change(holder: Any, key: Any, rng: random.Random) -> None:
    what = rng.choice(("value", "value", "value", "remove", "rename", "repeat", "scale"))
    if what == "remove":
        del holder[key]
    elif what == "rename" and isinstance(holder, dict):
        holder[key + "x"] = holder.pop(key)
    elif what == "repeat" and isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), holder[key])
    elif what == "scale" and isinstance(holder[key], int | float):
        holder[key] = holder[key] * rng.choice((-1, 0, 0.5, 2, 1e3, 1e9))
    else:
        holder[key] = rng.choice(_VALUES)
