"""What scripts of the repository measured: time, memory, and what belongs to no test set.

A script writes a JSON document, which lies beside the ledger: `benchmarks/results` in a clone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netllm.verbs.reproducing.experiments import Measure


@dataclass(frozen=True)
class Measured:
    """What is known of one measure."""

    measure: Measure
    cells: Mapping[str, Mapping[str, float | None]]
    """By line and column; empty if there is no document."""
    machine: str = ""

    def numbers(self) -> Iterator[dict[str, Any]]:
        """Every number with what made it."""
        for line, columns in self.cells.items():
            for metric, mean in columns.items():
                if mean is not None:
                    yield {
                        "row": self.measure.name,
                        "contender": line,
                        "metric": metric,
                        "mean": mean,
                        "command": self.measure.command,
                    }

    def table(self) -> Iterator[str]:
        """All of it in Markdown, three digits a number."""
        columns = [*self.measure.columns]
        yield f"| {self.machine} | {' | '.join(columns)} |"
        yield f"|---|{'---:|' * len(columns)}"
        for line, values in self.cells.items():
            told = [_told(values[name]) for name in columns]
            yield f"| {line} | {' | '.join(told)} |"


def read(measure: Measure, folder: Path) -> Measured:
    """What a folder of documents holds of a measure.

    Raises:
        ValueError: naming the file, if it is damaged or holds something else.
    """
    from netllm_adapt.files.reading import read_json

    path = folder / measure.document
    if not path.is_file():
        return Measured(measure, {})
    document = read_json(path)
    found = _at(document, measure.at)
    if isinstance(found, list):
        found = {" ".join(f"{_at(one, name)}" for name in measure.label): one for one in found}
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise ValueError(f"{path}: must hold lines at {measure.at!r}. Run: {measure.command}")
    cells = {
        line: {name: _number(_at(one, where)) for name, where in measure.columns.items()}
        for line, one in found.items()
    }
    cells = {line: known for line, known in cells.items() if {*known.values()} != {None}}
    return Measured(measure, cells, f"{_at(document, 'machine.cpu') or ''}")


def _at(document: Any, where: str) -> Any:
    """What is at a place such as `latency.0.ms`, everything at an empty one; None if nothing is."""
    for name in where.split(".") if where else ():
        if isinstance(document, list) and name.isdecimal() and int(name) < len(document):
            document = document[int(name)]
        else:
            document = document.get(name) if isinstance(document, dict) else None
    return document


def _number(found: Any) -> float | None:
    return float(found) if isinstance(found, int | float) else None


def _told(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
