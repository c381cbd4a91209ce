"""What was found, row by row: tables, verdicts, numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netllm import registry
from netllm.report.compare import compare
from netllm.report.metric import Metric
from netllm.report.provenance import provenance
from netllm.report.report import Report
from netllm.report.result import Result
from netllm.report.table import sentence, told_once
from netllm.report.training_seeds import trained
from netllm.verbs.reproducing.experiments import Contender, Model, Row, contenders
from netllm.verbs.reproducing.ledger import Entry
from netllm.verbs.reproducing.work import Work


@dataclass(frozen=True)
class Line:
    """A contender in a setting, and what is known of it."""

    who: Contender
    setting: str
    entry: Entry | None

    @property
    def where(self) -> str:
        """Both in words."""
        return f"{self.who.label} in {self.setting}"


@dataclass(frozen=True)
class Finding:
    """What is known of one row."""

    row: Row
    report: Report
    lines: tuple[Line, ...]

    def results(self) -> Iterator[tuple[Line, Entry, Result]]:
        """The lines that have a result."""
        for line in self.lines:
            if line.entry is not None and line.entry.result is not None:
                yield line, line.entry, line.entry.result

    def failed(self) -> list[str]:
        """Who failed where, and why."""
        found = [(line.where, line.entry.failed) for line in self.lines if line.entry is not None]
        return [f"{where}: {why}" for where, why in found if why]

    def missing(self) -> list[str]:
        """Who has not been tested where."""
        return [line.where for line in self.lines if line.entry is None]

    def outdated(self) -> list[str]:
        """What other versions of netllm's packages found than those installed."""
        now = _ours(provenance()["versions"])
        found = [(line.where, _ours(entry.made["versions"])) for line, entry, _ in self.results()]
        return [f"{where}: {versions}" for where, versions in found if versions != now]

    def verdicts(self) -> Iterator[str]:
        """In words how those it is about compare with the best rival and the other models."""
        models = {line.who.recipe for line in self.lines if line.who.model is not None}
        for one in told_once(self.report.comparisons):
            wanted = one.rival in models or "best rival" in one.role
            if wanted and one.subset == "all":
                yield sentence(one, self.report.metrics).plain

    def shares(self) -> dict[tuple[str, str], float]:
        """By setting and label the mean as a share of that of who knows the future, if anyone."""
        found, metric = {}, self.report.metrics[0]
        for setting, some in self.report.settings().items():
            bound = next((one for one in some if one.policy in self.report.bounds), None)
            for one in some:
                if (share := share_of(one, bound, metric)) is not None:
                    found[setting, one.label] = share
        return found

    def numbers(self) -> Iterator[dict[str, Any]]:
        """Every number with what made it."""
        shares = self.shares()
        for line, entry, result in self.results():
            values = {
                name: (v.mean, *(v.ci95 or (None, None))) for name, v in result.metrics.items()
            }
            if (share := shares.get((line.setting, line.who.label))) is not None:
                values["share of the bound"] = (share, None, None)
            for metric, (mean, low, high) in values.items():
                yield {
                    "row": self.row.name,
                    "setting": line.setting,
                    "contender": line.who.label,
                    "metric": metric,
                    "mean": mean,
                    "low": low,
                    "high": high,
                    "episodes": len(result.episodes),
                    "seeds": " ".join(dict.fromkeys(f"{one['seed']}" for one in result.episodes)),
                    "training_seed": line.who.training_seed,
                    "data": _data(entry, line.setting),
                    "key": entry.key,
                    "command": entry.command,
                    "made_at": entry.made["made_at"],
                    "versions": _told(entry.made["versions"]),
                }


def finding(work: Work, row: Row) -> Finding:
    """What the ledger holds of a row, compared; by its key, so that it is of these data."""
    lines = lines_of(row, work.experiments.models, work.found)
    task, members = registry.task(row.task), {}
    for setting in dict.fromkeys(line.setting for line in lines if line.entry is not None):
        place = work.place(row, setting)
        members[setting] = task.subsets(place, task.episodes(place, "test", count=row.episodes))
    return of_lines(row, lines, members)


def lines_of(
    row: Row, models: Mapping[str, Model], entry: Callable[[Contender, str], Entry | None]
) -> list[Line]:
    """All lines of a row, with what `entry` knows of each contender in a setting."""
    some = [*contenders(row, models)]
    return [Line(one, setting, entry(one, setting)) for one in some for setting in row.settings]


def of_lines(
    row: Row, lines: Sequence[Line], members: Mapping[str, Mapping[str, frozenset[str]]]
) -> Finding:
    """Lines, compared.

    Args:
        row: whose lines they are.
        lines: of all its contenders.
        members: per setting the named parts of the test set, as episode ids.
    """
    task = registry.task(row.task)
    entries = [line.entry for s in row.settings for line in lines if line.setting == s]
    results = [one.result for one in entries if one is not None and one.result is not None]
    notes = dict.fromkeys(note for one in entries if one is not None for note in one.notes)
    first = [line.who for line in lines if line.who.name in row.models[:1]]
    about = row.about or {name for one in first for name in (one.label, one.recipe)}
    compared = compare(results, task, members, about=set() if row.subject else {*about})
    # A ledger may be older than a metric.
    metrics = tuple(m for m in task.metrics if all(m.key in one.metrics for one in results))
    report = Report(
        results=results,
        comparisons=compared,
        provenance={"notes": [*notes]},
        metrics=metrics,
        bounds=task.bounds,
        recipes=trained(results, metrics),
    )
    return Finding(row, report, tuple(lines))


def share_of(one: Result, bound: Result | None, metric: Metric) -> float | None:
    """What a mean is of the bound's; None unless both are above zero and more is better."""
    if bound is None or not metric.higher_is_better:
        return None
    mean, most = one.metrics[metric.key].mean, bound.metrics[metric.key].mean
    return mean / most if min(mean, most) > 0 else None


def _data(entry: Entry, setting: str) -> str:
    """The sources of a setting, each with its digest; what is generated has none."""
    some = entry.made.get("sources", {}).get(setting, [])
    words = [[one["kind"], one["name"], one["sha256"] or ""] for one in some]
    return ", ".join(" ".join(one).rstrip() for one in words)


def _ours(versions: dict[str, str]) -> str:
    return _told({name: one for name, one in versions.items() if name.startswith("netllm")})


def _told(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
