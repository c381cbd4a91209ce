"""`netllm reproduce`."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

from netllm.commands.options_from_docstrings import options_of
from netllm.commands.printed_answer import Answer
from netllm.verbs import reproduce as reproducing


@options_of(reproducing.reproduce)
def reproduce(**options: Any) -> Answer:
    """Reproduce, and say where the report lies, or what would be done."""
    found = reproducing.reproduce(**options)
    show = partial(_schedule, found) if options.get("dry_run") else partial(_done, found)
    return Answer(dataclasses.asdict(found), show)


def _done(found: reproducing.Reproduction) -> None:
    for line in found.failed:
        print(f"Failed: {line}")
    print(f"The report is {found.out / 'report.html'}, and its numbers are in numbers.csv beside.")


def _schedule(found: reproducing.Reproduction) -> None:
    from rich.table import Table

    from netllm.report.table import wide_console

    table = Table("row", "who", "not tested in", "training, minutes", "testing, minutes")
    for one in found.left:
        took = ["?" if some is None else f"{some:.0f}" for some in (one.minutes, one.testing)]
        table.add_row(one.row, one.contender, ", ".join(one.missing), *took)
    wide_console().print(table)
    print(f"All of it takes {reproducing.hours(found.left)}.")
