"""The report as files: Markdown, one page of HTML, CSV and JSON of every number, figures."""

from __future__ import annotations

import base64
import csv
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from netllm.report.plots import boxes, cdf
from netllm.report.provenance import provenance
from netllm.report.report import save_document
from netllm.verbs.reproducing.findings import Finding

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


def write(findings: Sequence[Finding], out: Path, *, command: str) -> None:
    """Write `report.md`, `report.html`, `numbers.csv`, `numbers.json` and `figures`."""
    from netllm_adapt.files.writing import new_file

    for one in findings:
        _draw(one, out)
    text = "\n".join(_lines(findings, command))
    numbers = [line for one in findings for line in one.numbers()]
    with new_file(out / "report.md") as work:
        work.write_text(text, encoding="utf-8")
    with new_file(out / "report.html") as work:
        work.write_text(page(text, out), encoding="utf-8")
    with (
        new_file(out / "numbers.csv") as work,
        work.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(numbers[0]) if numbers else ["row"])
        writer.writeheader()
        writer.writerows(numbers)
    save_document({"numbers": numbers}, out / "numbers.json")


def _lines(findings: Sequence[Finding], command: str) -> Iterator[str]:
    """The Markdown document."""
    made = provenance()
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    yield from ("# NetLLM, reproduced", "")
    yield f"Made by `{command}` on {made['made_at']}, {made['machine']}. {versions}."
    yield from ("", "## In short", "")
    for one in findings:
        yield f"- **{one.row.title}**"
        yield from (f"    - {line}" for line in one.verdicts())
        if missing := one.missing():
            yield f"    - {len(missing)} results are missing."
    for one in findings:
        yield from _section(one)


def _section(one: Finding) -> Iterator[str]:
    """One row."""
    yield from ("", f"## {one.row.title}", "", f"> {one.row.paper}", "")
    if one.row.reduced:
        yield from (f"Reduced: {one.row.reduced}", "")
    if one.report.results:
        yield from (one.report.markdown(), "")
    for setting, shares in _shares(one).items():
        yield from (f"Of what the future would allow in {setting}: {', '.join(shares)}.", "")
    for name in _figures(one):
        yield from (f"![{name}](figures/{one.row.name}/{name})", "")
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


def _figures(one: Finding) -> list[str]:
    kinds = ("box", "cdf")
    return [f"{setting}-{kind}.png" for setting in one.report.settings() for kind in kinds]


def _draw(one: Finding, out: Path) -> None:
    """A box plot and the distribution of the first metric, per setting."""
    from matplotlib.figure import Figure
    from netllm_adapt.files.writing import new_file

    folder = out / "figures" / one.row.name
    folder.mkdir(parents=True, exist_ok=True)
    for setting, results in one.report.settings().items():
        for kind, draw in (("box", boxes), ("cdf", cdf)):
            figure = Figure(figsize=(7.5, 4.5), layout="constrained")
            draw(figure.subplots(), results, one.report.metrics[0], bounds=one.report.bounds)
            with new_file(folder / f"{setting}-{kind}.png") as work:
                figure.savefig(work, dpi=110, format="png")


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
