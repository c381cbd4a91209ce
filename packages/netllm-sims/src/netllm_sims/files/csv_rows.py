"""Rows of CSV files with a header and columns of text, read one by one."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from netllm_sims.files import reading
from netllm_sims.files.number_tables import MOST

_WIDEST = 10_000
UTF8 = "utf-8"


def header(path: Path, columns: Sequence[str], *, encoding: str = UTF8) -> list[str]:
    """The names in the header of a file, which has each of the named columns once.

    Raises:
        ValueError: As `rows` does.
    """
    with reading.opened(path) as stream:
        return _header(path, _cells(path, reading.lines(stream, path), encoding), columns)


def rows(
    path: Path, columns: Sequence[str], *, encoding: str = UTF8
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line and the cells of the named columns of each row, in this order.

    Args:
        path: The file, perhaps packed.
        columns: Names in the header, which may have others and any order.
        encoding: Of lines that are no UTF-8; but for UTF-8, what cannot be read becomes a question
            mark.

    Raises:
        ValueError: No regular file or a too large one, a header without one of the columns, a row
            of another width, or quotes that are not closed; with file and line.
    """
    with reading.opened(path) as stream:
        lines = reading.lines(stream, path)
        names = _header(path, _cells(path, lines, encoding), columns)
        places = [names.index(name) for name in columns]
        for number, found in _cells(path, lines, encoding):
            if len(found) != len(names):
                raise ValueError(
                    f"{path}:{number}: the row must have {len(names)} cells as the header does, "
                    f"got {len(found)}. Was the file cut?"
                )
            yield number, tuple([found[place].strip() for place in places])


def bare_rows(path: Path, width: int) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row of a file without a header.

    Raises:
        ValueError: As `rows` does, or a row that has not `width` cells.
    """
    with reading.opened(path) as stream:
        for number, found in _cells(path, reading.lines(stream, path), UTF8):
            if len(found) != width:
                raise ValueError(
                    f"{path}:{number}: the row must have {width} cells, got {len(found)}. Was the "
                    "file cut, or is it another version?"
                )
            yield number, [cell.strip() for cell in found]


def _header(
    path: Path, cells: Iterator[tuple[int, list[str]]], columns: Sequence[str]
) -> list[str]:
    number, found = next(cells, (1, []))
    names = [name.strip() for name in found]
    missing = [name for name in columns if names.count(name) != 1]
    if missing:
        raise ValueError(
            f"{path}:{number}: the header must name {', '.join(columns):.400} once, got "
            f"{', '.join(names)!r:.200} without {', '.join(missing):.200}. Is this the right "
            "source?"
        )
    return names


def _cells(
    path: Path, lines: Iterator[tuple[int, bytes]], encoding: str
) -> Iterator[tuple[int, list[str]]]:
    for number, raw in lines:
        line = _text(path, number, raw, encoding).strip()
        if not line:
            continue
        found = line.split(",") if '"' not in line else _quoted(path, number, line)
        if len(found) > _WIDEST:
            raise ValueError(
                f"{path}:{number}: a row must have at most {_WIDEST:,} cells, got {len(found):,}."
            )
        yield number, found


def _text(path: Path, number: int, raw: bytes, encoding: str) -> str:
    if encoding != UTF8:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw.decode(encoding, "replace")
    return reading.text(raw, path, line=number)


def _quoted(path: Path, number: int, line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as fault:
        raise ValueError(f"{path}:{number}: must be a row of CSV, but {fault}.") from None


def number(path: Path, line: int, name: str, cell: str, *, least: float | None = None) -> float:
    """The number of a cell.

    Args:
        path: The file, for errors.
        line: The line.
        name: The column.
        cell: The text.
        least: The lowest value that makes sense.

    Raises:
        ValueError: No finite number of a magnitude up to 1e15, or one below `least`.
    """
    try:
        value = float(cell) if "_" not in cell else float("nan")
    except ValueError:
        value = float("nan")
    if not abs(value) <= MOST or (least is not None and value < least):
        bound = "" if least is None else f" >= {least:g}"
        raise ValueError(
            f"{path}:{line}: `{name}` must be a number{bound} and at most {MOST:g} in magnitude, "
            f"got {cell!r:.60}. Correct or remove the line."
        )
    return value
