"""All that one `test` found: tables, comparisons, provenance; printed, saved, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from netllm.report.intervals import extent
from netllm.report.metric import Metric
from netllm.report.result import Comparison, Result, Trained, by_setting
from netllm.report.table import (
    empty_table,
    grid,
    group_tables,
    over_seeds,
    sentence,
    setting_table,
    told_once,
    wide_console,
)


@dataclass(frozen=True)
class Report:
    """The findings of one `test`; `print(report)` shows its tables and verdicts."""

    results: list[Result]
    """One per setting and contender."""
    comparisons: list[Comparison]
    """Every checkpoint against its rivals."""
    provenance: dict[str, Any]
    """Versions, seeds, data, notes, and by setting the rivals that were left out, with reasons."""
    metrics: tuple[Metric, ...] = field(default=())
    """What was measured, the one that decides first."""
    bounds: frozenset[str] = frozenset()
    """Policies that know the future."""
    recipes: list[Trained] = field(default_factory=list)
    """Recipes of which several training seeds were tested, over these seeds."""

    @property
    def notes(self) -> list[str]:
        """What a reader must know: where data come from, who ran alone, who was left out."""
        return [
            *self.provenance.get("notes", []),
            *(
                f"{name} is left out of {setting}: {reason}"
                for setting, reasons in self.provenance.get("left_out", {}).items()
                for name, reason in reasons.items()
            ),
        ]

    def settings(self) -> dict[str, list[Result]]:
        """The results of each setting."""
        return by_setting(self.results)

    def document(self) -> dict[str, Any]:
        """The report as one JSON-able document."""
        recipes = {"recipes": [asdict(one) for one in self.recipes]} if self.recipes else {}
        return {
            "results": [result.document() for result in self.results],
            **recipes,
            "comparisons": [asdict(one) for one in self.comparisons],
            "provenance": self.provenance,
        }

    def save(self, path: str | Path) -> Path:
        """Write the document to a file."""
        return save_document(self.document(), Path(path))

    def show(self, console: Console | None = None) -> None:
        """Print every setting's table, the comparisons and the notes, in colours on a terminal."""
        console = console or wide_console()
        for setting, results in self.settings().items():
            console.print(setting_table(setting, results, self.metrics, self.bounds))
            for title, (headings, rows) in group_tables(setting, results, self.metrics).items():
                table = empty_table(title, headings)
                for cells in rows:
                    table.add_row(*map(Text, cells))
                console.print(table)
            for line in self._over_seeds(setting):
                console.print(line, markup=False, highlight=False)
        for comparison in told_once(self.comparisons):
            console.print(sentence(comparison, self.metrics))
        for note in self.notes:
            console.print(f"Note: {note}", style="dim", markup=False, highlight=False)

    def __str__(self) -> str:
        """What `show` prints, as plain text."""
        console = Console(width=wide_console().width, color_system=None, force_jupyter=False)
        with console.capture() as shown:
            self.show(console)
        return shown.get().rstrip("\n")

    def markdown(self) -> str:
        """The same in Markdown, for model cards."""
        lines = []
        for setting, results in self.settings().items():
            headings, rows = grid(results, self.metrics, self.bounds)
            where = " / ".join(f"`{part}`" for part in results[0].where.split(" / ", 1))
            lines += [
                f"{where}, {extent(results[0].episodes)}\n",
                *_markdown(headings, [cells for _, cells in rows]),
            ]
            for title, (names, figures) in group_tables(setting, results, self.metrics).items():
                lines += [f"{title}\n", *_markdown(names, figures)]
            lines += [f"- {line}" for line in self._over_seeds(setting)]
        lines += [f"- {sentence(one, self.metrics).plain}" for one in told_once(self.comparisons)]
        lines += [f"- Note: {note}" for note in self.notes]
        return "\n".join(lines)

    _repr_markdown_ = markdown
    """A notebook shows a cell's last value so."""

    def _over_seeds(self, setting: str) -> list[str]:
        """The setting's recipes over their training seeds, in words."""
        return [over_seeds(one, self.metrics[0]) for one in self.recipes if one.setting == setting]


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose first column names who the numbers of the others are of, and an empty line."""
    head = [f"| {' | '.join(headings)} |", f"|---{'|---:' * (len(headings) - 1)}|"]
    return [*head, *(f"| {' | '.join(cells)} |" for cells in rows), ""]


def save_document(document: Mapping[str, Any], path: Path) -> Path:
    """Write a JSON-able document to a file, which is there when it is complete."""
    from netllm_adapt.files.writing import new_file

    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, allow_nan=False)
    with new_file(path) as work:
        work.write_text(text + "\n", encoding="utf-8")
    return path
