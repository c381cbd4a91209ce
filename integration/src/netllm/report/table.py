"""Results as a table for a terminal, comparisons in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table
from rich.text import Text

from netllm.report.clustered_bootstrap import LEAST
from netllm.report.intervals import Estimate, counted, extent
from netllm.report.metric import Metric
from netllm.report.result import Comparison, Result, Trained, best_first

_VERDICTS = {
    "ahead": "is ahead of",
    "behind": "LOSES to",
    "level": "is level with",
    "none": "stands beside",
}
_STYLES = {"ahead": "green", "behind": "bold red", "level": "yellow", "none": "dim"}


def wide_console() -> Console:
    """As wide as the terminal; a file or a pipe has no width that lines must fit."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def setting_table(
    setting: str,
    results: Sequence[Result],
    metrics: Sequence[Metric],
    bounds: frozenset[str] = frozenset(),
) -> Table:
    """One setting's results, the best first."""
    where = results[0].where if results[0].data else f"{results[0].task} / {setting}"
    headings, rows = grid(results, metrics, bounds)
    table = empty_table(f"{where}, {extent(results[0].episodes)}", headings)
    for result, cells in rows:
        style = "bold" if result.checkpoint else "dim" if result.policy in bounds else ""
        table.add_row(Text(cells[0]), *cells[1:], style=style)
    return table


def empty_table(title: str, headings: Sequence[str]) -> Table:
    """A table whose first column names who the numbers of the others are of."""
    table = Table(title=title, title_justify="left")
    table.add_column(headings[0], no_wrap=True)
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    return table


def over_seeds(one: Trained, metric: Metric) -> str:
    """A recipe over its training seeds, in words."""
    spread = one.metrics[metric.key]
    least, most = min(spread.over_seeds), max(spread.over_seeds)
    seeds = ", ".join(str(seed) for seed in one.seeds)
    return (
        f"{one.recipe} over {len(one.seeds)} training seeds ({seeds}): {metric.label} "
        f"{digits(Estimate(spread.mean, spread.ci95))}, spread over seeds {spread.sd:.3f} "
        f"({least:.3f} to {most:.3f})"
    )


def grid(
    results: Sequence[Result], metrics: Sequence[Metric], bounds: frozenset[str]
) -> tuple[list[str], list[tuple[Result, list[str]]]]:
    """Headings, and for each result, the best first, its cells; metrics that all have."""
    first, *others = _had(results, metrics)[""]
    counts = {name: part.episodes for one in results for name, part in one.subsets.items()}
    has_asked = any(one.asked is not None for one in results)
    has_validity = any(one.validity is not None for one in results)
    headings = ["policy", f"{first.label} [95 %]"]
    headings += [f"{part} ({count})" for part, count in counts.items()]
    headings += [metric.label for metric in others]
    headings += ["valid"] * has_validity + ["asked"] * has_asked + ["decisions/s"]
    rows = []
    for one in best_first(results, first):
        figures = [
            one.metrics,
            *(one.subsets[p].metrics if p in one.subsets else {} for p in counts),
        ]
        cells = [_name(one, bounds)]
        cells += [digits(some[first.key]) if some else "" for some in figures]
        cells += [f"{one.metrics[metric.key].mean:.3f}" for metric in others]
        cells += ["" if one.validity is None else f"{one.validity:.1%}"] * has_validity
        cells += ["" if one.asked is None else f"{one.asked:.1%}"] * has_asked
        rows.append((one, [*cells, f"{one.decisions_per_s:,.0f}"]))
    return headings, rows


def group_tables(
    setting: str, results: Sequence[Result], metrics: Sequence[Metric]
) -> dict[str, tuple[list[str], list[list[str]]]]:
    """By title the headings and cells of the metrics that have tables of their own."""
    found = {}
    groups = _had(results, metrics)
    first = groups.pop("")[0]
    for group, some in groups.items():
        cells = [
            [one.label, *(f"{one.metrics[metric.key].mean:.3f}" for metric in some)]
            for one in best_first(results, first)
        ]
        found[f"{setting}, {group}"] = (["policy", *(metric.label for metric in some)], cells)
    return found


def _had(results: Sequence[Result], metrics: Sequence[Metric]) -> dict[str, list[Metric]]:
    """By group the metrics that all results have."""
    found: dict[str, list[Metric]] = {}
    for metric in metrics:
        if all(metric.key in one.metrics for one in results):
            found.setdefault(metric.group, []).append(metric)
    return found


def digits(value: Estimate, sign: str = "") -> str:
    """A mean with its interval, to three places; with `+` as the sign of what is above zero."""
    limits = [f"{one:{sign}.3f}" for one in (value.mean, *(value.ci95 or ()))]
    return limits[0] + (f" [{limits[1]}, {limits[2]}]" if value.ci95 else "")


def told_once(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons; a rival that stands for two reasons is told of once, with both."""
    told: dict[tuple[str, ...], Comparison] = {}
    for one in comparisons:
        key = one.setting, one.subset, one.checkpoint, one.rival
        role = f"{told[key].role} and {one.role}" if key in told else one.role
        told[key] = replace(one, role=role)
    return [*told.values()]


def sentence(one: Comparison, metrics: Sequence[Metric]) -> Text:
    """A comparison in words; says plainly when the rival wins."""
    label = next(metric.label for metric in metrics if metric.key == one.metric)
    where = one.setting if one.subset == "all" else f"{one.setting}, {one.subset}"
    role = f"{one.role}, knows {one.knows}" if one.knows else one.role
    text = f"{where}: {one.checkpoint} {_VERDICTS[one.verdict]} {one.rival} ({role}): {label} "
    counts = counted(one.clusters)
    pairing = (
        f"too little for a verdict: {counts}, and it takes at least {LEAST}"
        if one.verdict == "none"
        else f"paired by episode, over {counts}"
    )
    difference = digits(one.difference, "+")
    return Text(f"{text}{difference}, {pairing}.", style=_STYLES[one.verdict])


def _name(result: Result, bounds: frozenset[str]) -> str:
    marks = ["bound"] * (result.policy in bounds) + [f"knows {result.knows}"] * bool(result.knows)
    marks += [f"learned from {result.learned} of them"] * bool(result.learned)
    return f"{result.label} ({', '.join(marks)})" if marks else result.label
