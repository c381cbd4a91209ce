"""Columns of numbers in a user's text files, read by NumPy's own parser block by block."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_sims.files.reading import Block, text

MOST = 1e15
"""Largest magnitude of a number that means something; beyond it time and bytes lose their units."""


class Table(NamedTuple):
    """Numbers of a file and the line that each row came from."""

    values: Float[ndarray, "row column"]
    lines: Int[ndarray, "row"]


class Layout(NamedTuple):
    """What the lines of a file must be."""

    width: int
    """Columns of a line."""
    columns: tuple[int, ...]
    """Columns that are numbers and wanted, in this order; the others may be anything."""
    separator: str | None = None
    """What stands between columns; None: blanks."""
    what: str = "the columns"
    """What the wanted columns are, for errors, in the plural."""
    remedy: str = "Correct or remove the line."
    """What to do about a line of another width."""


def read_table(blocks: Iterable[Block], where: object, layout: Layout) -> Table:
    """The wanted numbers of all lines; blank lines and lines that begin with `#` are passed over.

    Numbers may stand in quotes. A block takes NumPy's parser a tenth of what lines in Python take;
    only blocks with quotes, comments or faults are looked at line by line.

    Args:
        blocks: The lines, as of `reading.blocks`.
        where: The file, for errors.
        layout: What the lines must be.

    Raises:
        ValueError: A line of another width, or with a wanted cell that is no finite number of
            magnitude up to `MOST`; with file and line.
    """
    values: list[ndarray] = [np.empty((0, len(layout.columns)))]
    lines: list[ndarray] = [np.empty(0, np.int64)]
    for block in blocks:
        table = _fast(block, where, layout) or _slow(block, where, layout)
        _check(table, block, where, layout)
        values.append(table.values)
        lines.append(table.lines)
    return Table(np.concatenate(values), np.concatenate(lines))


def first_line(
    blocks: Iterator[Block], where: object, *, empty: str
) -> tuple[tuple[int, str], Iterator[Block]]:
    """The first line that is neither blank nor a comment, with its number, and the blocks from it.

    Args:
        blocks: The lines.
        where: The file, for errors.
        empty: The error's sentences where there is no such line.

    Raises:
        ValueError: There is none, or it is not in UTF-8.
    """
    for block in blocks:
        start = 0
        for number, line in enumerate(block.content.split(b"\n"), block.line):
            if line.strip() and not line.strip().startswith(b"#"):
                rest = Block(number, block.content[start:])
                return (number, text(line, where, line=number).strip()), chain([rest], blocks)
            start += len(line) + 1
    raise ValueError(f"{where}:1: {empty}")


def without_first(blocks: Iterator[Block]) -> Iterator[Block]:
    """The blocks without their first line, a header."""
    first = next(blocks)
    yield Block(first.line + 1, first.content.partition(b"\n")[2])
    yield from blocks


def _fast(block: Block, where: object, layout: Layout) -> Table | None:
    """The table of a block in which each line is a row of bare numbers; None: it may not be."""
    content = block.content
    if b'"' in content or b"#" in content:
        return None
    rows = text(content, where, line=block.line).removesuffix("\n").split("\n")
    if not all(map(str.strip, rows)):
        return None
    try:
        table = np.loadtxt(
            rows,
            delimiter=layout.separator,
            comments=None,
            ndmin=2,
            # all cells while they are numbers, so that the parser minds the width of lines
            usecols=None if len(layout.columns) == layout.width else layout.columns,
        )
    except ValueError:
        return None
    if not _all_wide(rows, table, layout):
        return None
    wanted = list(layout.columns) if table.shape[1] == layout.width else slice(None)
    return Table(table[:, wanted], np.arange(block.line, block.line + len(rows)))


def _all_wide(rows: list[str], table: ndarray, layout: Layout) -> bool:
    """Whether each line has the layout's width; with `usecols` the parser does not look."""
    if len(layout.columns) == layout.width:
        return table.shape[1] == layout.width
    if layout.separator is None:
        return all(len(row.split()) == layout.width for row in rows)
    return all(row.count(layout.separator) == layout.width - 1 for row in rows)


def _slow(block: Block, where: object, layout: Layout) -> Table:
    """As `_fast`, for all blocks, with the faults of lines."""
    values, lines = [], []
    content = text(block.content, where, line=block.line)
    for number, line in enumerate(content.split("\n"), block.line):
        row = line.strip()
        if not row or row.startswith("#"):
            continue
        if row.count('"') % 2:
            raise ValueError(
                f"{where}:{number}: quotes must be closed, got {row[:80]!r}. Correct or remove the "
                "line."
            )
        row_cells = cells(row, layout.separator)
        if row.count('"') % 2:
            raise ValueError(
                f"{where}:{number}: quotes must be closed on their line, got {row[:80]!r}. Correct "
                "or remove the line."
            )
        if len(row_cells) != layout.width:
            raise ValueError(
                f"{where}:{number}: the line must hold {layout.width} columns, got {row[:80]!r}. "
                f"{layout.remedy}"
            )
        wanted = [_bare(row_cells[column]) for column in layout.columns]
        try:
            if any("_" in cell or not cell.isascii() for cell in wanted):
                raise ValueError
            values.append([float(cell) for cell in wanted])
        except ValueError:
            raise ValueError(
                f"{where}:{number}: {layout.what} must be numbers, got {row[:80]!r}. Correct or "
                "remove the line."
            ) from None
        lines.append(number)
    shape = (-1, len(layout.columns))
    return Table(np.array(values, float).reshape(shape), np.array(lines, np.int64))


def _check(table: Table, block: Block, where: object, layout: Layout) -> None:
    """Raise unless the numbers are finite and of a magnitude that means something."""
    wrong = np.flatnonzero(~(np.abs(table.values) <= MOST).all(axis=1))
    if len(wrong):
        number = int(table.lines[wrong[0]])
        row = block.content.split(b"\n")[number - block.line].decode().strip()
        raise ValueError(
            f"{where}:{number}: {layout.what} must be finite numbers, at most {MOST:g} in "
            f"magnitude, got {row[:80]!r}. Correct or remove the line."
        )


def cells(line: str, separator: str | None) -> Sequence[str]:
    """The cells of a line; a separator within quotes is text, where all quotes are closed."""
    if separator is None or '"' not in line or len(line) > csv.field_size_limit():
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator, strict=True))
    except csv.Error:
        return line.split(separator)


def _bare(cell: str) -> str:
    """The cell without blanks and one pair of quotes around it."""
    cell = cell.strip()
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell
