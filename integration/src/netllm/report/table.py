"""A report as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from netllm.report.clustered_bootstrap import LEAST
from netllm.report.intervals import Estimate, counted, extent
from netllm.report.metric import Metric
from netllm.report.result import Comparison, Report, Result, Trained, best_first

_VERDICTS = {
    "ahead": "is ahead of",
    "behind": "LOSES to",
    "level": "is level with",
    "none": "stands beside",
}
_STYLES = {"ahead": "green", "behind": "bold red", "level": "yellow", "none": "dim"}


def show(report: Report, console: Console | None = None) -> None:
    """Print every setting's table, the comparisons and the notes."""
    console = console or wide_console()
    for setting, results in report.settings().items():
        console.print(setting_table(setting, results, report.metrics, report.bounds))
        for one in report.recipes:
            if one.setting == setting:
                console.print(over_seeds(one, report.metrics[0]), markup=False, highlight=False)
    for comparison in report.comparisons:
        console.print(sentence(comparison, report.metrics))
    for note in report.notes:
        console.print(f"Note: {note}", style="dim", markup=False, highlight=False)


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
    parts = _parts(results)
    where = results[0].where if results[0].data else f"{results[0].task} / {setting}"
    title = f"{where}, {extent(results[0].episodes)}"
    table = Table(title=title, title_justify="left")
    table.add_column("policy", no_wrap=True)
    for heading in _headings(metrics, parts, results):
        table.add_column(heading, justify="right")
    for result in best_first(results, metrics[0]):
        style = "bold" if result.checkpoint else "dim" if result.policy in bounds else ""
        cells = _cells(result, metrics, parts, counted=_counted(results))
        table.add_row(Text(_name(result, bounds)), *cells, style=style)
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


def _headings(
    metrics: Sequence[Metric], parts: Sequence[str], results: Sequence[Result]
) -> Iterator[str]:
    yield f"{metrics[0].label} [95 %]"
    for part in parts:
        count = next(result.subsets[part].episodes for result in results if part in result.subsets)
        yield f"{part} ({count})"
    yield from (metric.label for metric in metrics[1:])
    if _counted(results):
        yield "valid"
    yield "decisions/s"


def _cells(
    result: Result, metrics: Sequence[Metric], parts: Sequence[str], *, counted: bool
) -> Iterator[str]:
    first = metrics[0].key
    yield digits(result.metrics[first])
    for part in parts:
        yield digits(result.subsets[part].metrics[first]) if part in result.subsets else ""
    yield from (f"{result.metrics[metric.key].mean:.3f}" for metric in metrics[1:])
    if counted:
        yield "" if result.validity is None else f"{result.validity:.1%}"
    yield f"{result.decisions_per_s:,.0f}"


def digits(value: Estimate) -> str:
    """A mean with its interval, to three places."""
    if value.ci95 is None:
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} [{value.ci95[0]:.3f}, {value.ci95[1]:.3f}]"


def sentence(one: Comparison, metrics: Sequence[Metric]) -> Text:
    """A comparison in words; says plainly when the rival wins."""
    label = next(metric.label for metric in metrics if metric.key == one.metric)
    where = one.setting if one.subset == "all" else f"{one.setting}, {one.subset}"
    role = f"{one.role}, knows {one.knows}" if one.knows else one.role
    text = f"{where}: {one.checkpoint} {_VERDICTS[one.verdict]} {one.rival} ({role}): {label} "
    return Text(f"{text}{signed(one.difference)}, {_pairing(one)}.", style=_STYLES[one.verdict])


def signed(value: Estimate) -> str:
    """A difference with its interval, to three places."""
    if value.ci95 is None:
        return f"{value.mean:+.3f}"
    return f"{value.mean:+.3f} [{value.ci95[0]:+.3f}, {value.ci95[1]:+.3f}]"


def _pairing(one: Comparison) -> str:
    counts = counted(one.clusters)
    if one.verdict == "none":
        return f"too little for a verdict: {counts}, and it takes at least {LEAST}"
    return f"paired by episode, over {counts}"


def markdown(report: Report) -> str:
    """The report in Markdown, for model cards."""
    lines = []
    for setting, results in report.settings().items():
        parts = _parts(results)
        headings = ["policy", *_headings(report.metrics, parts, results)]
        lines += [
            f"{_marked(results[0])}, {extent(results[0].episodes)}\n",
            f"| {' | '.join(headings)} |",
            f"|---{'|---:' * (len(headings) - 1)}|",
        ]
        for result in best_first(results, report.metrics[0]):
            cells = _cells(result, report.metrics, parts, counted=_counted(results))
            lines.append(f"| {' | '.join([_name(result, report.bounds), *cells])} |")
        lines.append("")
        lines += [
            f"- {over_seeds(one, report.metrics[0])}"
            for one in report.recipes
            if one.setting == setting
        ]
    lines += [f"- {sentence(one, report.metrics).plain}" for one in report.comparisons]
    lines += [f"- Note: {note}" for note in report.notes]
    return "\n".join(lines)


def _counted(results: Sequence[Result]) -> bool:
    """Whether any of them counts its valid answers."""
    return any(result.validity is not None for result in results)


def _parts(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(name for result in results for name in result.subsets))


def _name(result: Result, bounds: frozenset[str]) -> str:
    marks = ["bound"] * (result.policy in bounds) + [f"knows {result.knows}"] * bool(result.knows)
    marks += [f"learned from {result.learned} of them"] * bool(result.learned)
    return f"{result.label} ({', '.join(marks)})" if marks else result.label


def _marked(result: Result) -> str:
    """Where it was tested, in Markdown."""
    return " / ".join(f"`{part}`" for part in result.where.split(" / ", 1))
