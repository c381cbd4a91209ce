"""`netllm runs`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from netllm.commands.options import Output
from netllm.commands.printed_answer import Answer

if TYPE_CHECKING:
    from netllm_adapt.training.run_status import RunStatus

_STYLES = {"running": "bold", "stopped": "yellow", "finished": ""}


def runs(folder: Path, /, *, output: Output = Output()) -> Answer:
    """How the runs of adapt in a folder stand: state, step, time left, best figure, last error.

    A run that is neither running nor finished was stopped; --resume goes on with it.

    Args:
        folder: A run, or a folder that holds runs at any depth.
    """
    from netllm_adapt.training.run_status import find_runs, read_status

    found = [read_status(run) for run in find_runs(folder)]
    if not found:
        raise ValueError(f"{folder} must hold at least one run of `netllm adapt`, but has none.")
    document = {"runs": [dataclasses.asdict(one) for one in found]}
    return Answer(document, partial(_show, found, folder))


def _show(found: Sequence[RunStatus], folder: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from netllm.report.table import wide_console

    table = Table("run", "state", "step", "time left", "best on validation", "loss", "note")
    for one in found:
        cells = (
            str(one.path.relative_to(folder)) if one.path != folder else one.path.name,
            one.state,
            f"{one.step:,} of {one.steps:,}",
            "" if one.seconds_left is None else str(timedelta(seconds=round(one.seconds_left))),
            next((f"{name} {value:.3f}" for name, value in one.best.items()), ""),
            "" if one.loss is None else f"{one.loss:.3f}",
            one.error or one.writer,
        )
        table.add_row(*map(Text, cells), style=_STYLES[one.state])
    wide_console().print(table)
