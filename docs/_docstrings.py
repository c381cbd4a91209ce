"""Docstrings are written in Markdown's manner; Sphinx reads reStructuredText.

Tables become `list-table`s, and a bar in a formula, `|a - b|`, no substitution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

ROW = re.compile(r"^\s*\|.*\|\s*$")
RULE = re.compile(r"^[\s|:-]+$")
CODE = re.compile(r"(`[^`]*`)")


def convert(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText."""
    converted: list[str] = []
    for is_table, some in groupby(lines, key=lambda line: bool(ROW.match(line))):
        rows = list(some)
        if is_table and len(rows) > 1 and RULE.match(rows[1]):
            converted += ["", *_list_table(rows), ""]
        else:
            converted += [_escaped(line) for line in rows]
    return converted


def _list_table(rows: list[str]) -> Iterator[str]:
    indent = " " * (len(rows[0]) - len(rows[0].lstrip()))
    yield f"{indent}.. list-table::"
    yield f"{indent}   :header-rows: 1"
    yield ""
    for row in [rows[0], *rows[2:]]:
        for number, cell in enumerate(row.strip().strip("|").split("|")):
            yield f"{indent}   {'* -' if number == 0 else '  -'} {cell.strip()}".rstrip()


def _escaped(line: str) -> str:
    parts = CODE.split(line)
    return "".join(p if p.startswith("`") else p.replace("|", r"\|") for p in parts)


def setup(app: Any) -> dict[str, bool]:
    """Convert every docstring after napoleon has read its sections."""

    def process(
        _app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
    ) -> None:
        lines[:] = convert(lines)

    app.connect("autodoc-process-docstring", process, priority=900)
    return {"parallel_read_safe": True}
