"""`netllm sweep`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from netllm import registry
from netllm.commands.options import Data, Output
from netllm.commands.printed_answer import Answer
from netllm.commands.recipe_files import TomlFile
from netllm.verbs import sweep as sweeping

_OWN = ("trials", "storage", "search_seed")


def sweep(
    task: str,
    file: Path,
    /,
    *,
    out: Path,
    trials: int | None = None,
    device: str | None = None,
    data: Data = None,
    output: Output = Output(),
) -> Answer:
    """Adapt with many recipes, which a search chooses by their validation.

    FILE is a TOML file with options of netllm adapt, such as `pool` and `steps`, and a table
    [search]: by field of the recipe a list of values, or {low = 1, high = 9}, with log = true for
    numbers that span orders of magnitude. The same command goes on with a sweep that was cut off;
    begun in several terminals it shares the trials among them. Each trial is a run of its own:
    `netllm runs OUT`.

    Args:
        task: What is adapted to, such as abr.
        file: What is searched, and with which options.
        out: Folder of the sweep; must be new, empty or hold this sweep.
        trials: How many there are to be, with those of earlier calls; what the file says, or 20.
        device: Where models compute: cpu, cuda, cuda:1, mps, or auto, the default, for a GPU if
            there is one.
    """
    options = _read(file, task)
    given = {"trials": trials, "data": data, "device": device}
    options |= {name: value for name, value in given.items() if value is not None}
    found = sweeping.sweep(task, out=out, **options)
    metric = registry.task(task).metrics[0]
    document = {"task": task, "trials": [dataclasses.asdict(one) for one in found]}
    return Answer(document, partial(_show, found, out, metric.label))


def _read(path: Path, task: str) -> dict[str, Any]:
    """The file's options.

    Raises:
        ValueError: naming file and line, for a key that is none, or no table [search].
    """
    file = TomlFile(path)
    recipe = dataclasses.asdict(registry.task(task).recipe(file.content.get("backbone")))
    known = [*sorted(sweeping.trial_options()), *recipe, *_OWN, "search"]
    for key in file.content:
        if key not in known:
            raise file.unknown(key, known, "sweep")
    if "search" not in file.content:
        raise ValueError(f"{path}: must have a table [search] of fields of the recipe.")
    for name in ("search", "set"):
        if name in file.content:
            file.table(name)
    return dict(file.content)


def _show(found: Sequence[sweeping.SweptRun], out: Path, metric: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from netllm.report.table import wide_console

    names = list(dict.fromkeys(name for one in found for name in one.changes))
    table = Table("run", f"{metric} on validation", *names)
    for one in found:
        values = (_told(one.changes, name) for name in names)
        table.add_row(*map(Text, (one.run.name, f"{one.figure:.4f}", *values)))
    wide_console().print(table)
    if found:
        print(f"The best is {out / found[0].run.name}. Test it on what chose nothing yet.")


def _told(changes: Mapping[str, Any], name: str) -> str:
    value = changes[name]
    return f"{value:.3g}" if isinstance(value, float) else str(value)
