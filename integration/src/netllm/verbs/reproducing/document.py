"""The report as files: Markdown, one page of HTML, CSV and JSON of every number, figures."""

from __future__ import annotations

import base64
import csv
import re
from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.report.plots import boxes, cdf, curves, save
from netllm.report.provenance import provenance
from netllm.report.report import save_document
from netllm.verbs.reproducing.experiments import Measure, Row
from netllm.verbs.reproducing.findings import Finding
from netllm.verbs.reproducing.leaderboard import RULE as RANKED
from netllm.verbs.reproducing.leaderboard import boards, lines_of
from netllm.verbs.reproducing.measures import Measured
from netllm.verbs.reproducing.pretraining import KINDS, RULE, statement, table

if TYPE_CHECKING:
    from netllm.task import Draw

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #8884; white-space: nowrap; }
td:not(:first-child), th:not(:first-child) { text-align: right; }
img { max-width: 100%; height: auto; background: white; }
blockquote { margin: 0; padding-left: 1rem; border-left: 4px solid #8888; }
code { font-size: 0.9em; overflow-wrap: anywhere; }
"""


NUMBER = (
    *("row", "setting", "contender", "metric", "mean", "low", "high", "episodes", "seeds"),
    *("training_seed", "data", "key", "command", "made_at", "versions"),
)
"""What there is of a number."""


def write(
    findings: Sequence[Finding], measured: Sequence[Measured], out: Path, *, command: str
) -> None:
    """Write `report.md`, `report.html`, `numbers.csv`, `numbers.json` and `figures`."""
    from netllm_adapt.files.writing import new_file

    text = "\n".join(_lines(findings, measured, out, command))
    numbers = [line for one in findings for line in one.numbers()]
    numbers += [line for one in measured for line in one.numbers()]
    with new_file(out / "report.md") as work:
        work.write_text(text, encoding="utf-8")
    with new_file(out / "report.html") as work:
        work.write_text(page(text, out), encoding="utf-8")
    with (
        new_file(out / "numbers.csv") as work,
        work.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, NUMBER)
        writer.writeheader()
        writer.writerows(numbers)
    save_document({"numbers": numbers}, out / "numbers.json")


def _lines(
    findings: Sequence[Finding], measured: Sequence[Measured], out: Path, command: str
) -> Iterator[str]:
    """The Markdown document."""
    made = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    yield from ("# NetLLM, reproduced", "")
    yield f"Made by `{command}` on {made['made_at']}, {made['machine']}. {versions}."
    if asked := [one for one in findings if one.row.subject]:
        yield from ("", "## Does the language model matter?", "")
        for one in asked:
            told = statement(one)
            unit = f" Differences are in {one.report.metrics[0].label}." if told else ""
            yield f"- **{one.row.title}** {told or 'Nothing is known yet.'}{unit}"
        yield from ("", RULE, "", "What is compared:", "")
        named = {name for one in asked for name in (one.row.subject, *one.row.against)}
        yield from (f"- `{name}`: {what}" for name, what in KINDS.items() if name in named)
    yield from ("", "## In short", "")
    for one in findings:
        if one.row.subject and not one.missing():
            continue
        yield f"- **{one.row.title}**"
        yield from (f"    - {line}" for line in one.verdicts())
        if missing := one.missing():
            yield f"    - Results that are missing: {len(missing)}."
    yield from ("", "## Leaderboard", "", RANKED, "")
    for task, settings in boards(findings).items():
        yield from lines_of(task, settings)
    for one in findings:
        yield from _section(one, out)
    for known in measured:
        yield from _measure(known)


def _measure(one: Measured) -> Iterator[str]:
    """What a script measured."""
    yield from _head(one.measure)
    yield from (*(one.table() if one.cells else ["Not measured."]), "")
    yield from (f"Measured by `{one.measure.command}` in a clone.", "")


def _head(row: Row | Measure) -> Iterator[str]:
    yield from ("", f"## {row.title}", "", f"> {row.paper}", "")
    if row.reduced:
        yield from (f"Reduced: {row.reduced}", "")


def _section(one: Finding, out: Path) -> Iterator[str]:
    """One row, whose figures are drawn: a box plot and the distribution of the first metric."""
    yield from _head(one.row)
    if one.row.subject:
        yield from (*table(one), "")
    if one.report.results:
        yield from (one.report.markdown(), "")
    for setting, shares in _shares(one).items():
        yield from (f"Of what the future would allow in {setting}: {', '.join(shares)}.", "")
    how: dict[str, Any] = {"metric": one.report.metrics[0], "bounds": one.report.bounds}
    draws: dict[str, Draw] = {"box.png": partial(boxes, **how), "cdf.png": partial(cdf, **how)}
    if one.row.axis:
        places = {line.who.label: (line.who.kind, line.who.value) for line in one.lines}
        draws = {"curve.png": partial(curves, places=places, axis=one.row.axis, **how)}
    for path in save(one.report, draws, out / "figures" / one.row.name):
        yield from (f"![{path.stem}]({path.relative_to(out).as_posix()})", "")
    for what, lines in (
        ("Failed", one.failed()),
        ("Not tested", one.missing()),
        ("Made with other versions", one.outdated()),
    ):
        if lines:
            yield from (f"{what}:", "", *(f"- {line}" for line in lines), "")


def _shares(one: Finding) -> dict[str, list[str]]:
    """By setting each mean as a share of that of who knows the future."""
    found: dict[str, list[str]] = {}
    for (setting, label), share in one.shares().items():
        found.setdefault(setting, []).append(f"{label} {share:.1%}")
    return found


def page(text: str, folder: Path) -> str:
    """A Markdown document as one page of HTML that holds its images."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    body = re.sub("(<table>.*?</table>)", r'<div class="wide">\1</div>', body, flags=re.S)

    def embedded(found: re.Match[str]) -> str:
        content = base64.b64encode((folder / found[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{content}"'

    body = re.sub(r'src="([^":]+\.png)"', embedded, body)
    title = escape(text.partition("\n")[0].lstrip("# "))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )
