"""The documents' tables of the ledger, which `netllm reproduce` fills.

    python benchmarks/findings.py [ROW ...]

Nothing is run: of every row the table of benchmarks/results/reproduce is written between the row's
marks in docs/results.md, and its most telling lines into README.md; and everybody's rank into
docs/leaderboard.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from _documents import ROOT, put
from netllm import registry
from netllm.report.intervals import Rows, cluster_counts, counted
from netllm.report.table import digits, told_once
from netllm.verbs.reproducing import leaderboard, pretraining
from netllm.verbs.reproducing.experiments import Contender, read
from netllm.verbs.reproducing.findings import Finding, lines_of, of_lines
from netllm.verbs.reproducing.ledger import Entry, Ledger

LEDGER = ROOT / "benchmarks" / "results" / "reproduce"
TELLING = {
    "abr": ("hindsight", "pretrained", "random-smollm2-135m", "ppo-wide", "ppo", "soda", "genet"),
    "cc": ("capacity", "aurora", "pretrained", "copa", "bbr", "cubic"),
    "cjs": (
        *("rollout", "pretrained-plan-12", "pretrained", "random-smollm2-135m", "scratch"),
        *("tuned-share", "decima", "fair"),
    ),
    "flows": ("pretrained", "random-smollm2-135m", "scratch", "cnn", "gradient-boosting", "port"),
    "vp": ("pretrained", "random-smollm2-135m", "scratch", "vpt360", "gru", "track", "hold-last"),
    "vp-side": (
        *("pretrained", "random-smollm2-135m", "scratch", "gru-side", "crowd-median"),
        "hold-last",
    ),
}
"""Whom the README's tables show; everybody is in docs/results.md."""


@cache
def kept(name: str, folder: Path = LEDGER) -> Finding:
    """What a ledger holds of a row, whatever the data it was found on."""
    whole = read("full")
    row = next(one for one in whole.rows if one.name == name)
    ledger = Ledger(folder)

    def entry(one: Contender, setting: str) -> Entry | None:
        return ledger.entries(name, one.label).get(setting)

    return of_lines(row, lines_of(row, whole.models, entry), {})


def table(found: Finding, only: tuple[str, ...] = ()) -> str:
    """The deciding metric of everybody, or of `only` some, in every setting."""
    metric = registry.task(found.row.task).metrics[0]
    cells: dict[str, dict[str, str]] = {}
    counts: dict[str, str] = {}
    for line, _, result in found.results():
        counts[line.setting] = _count(result.episodes)
        if not only or line.who.label in only:
            value = digits(result.metrics[metric.key])
            cells.setdefault(line.who.label, {})[line.setting] = value
    settings = [setting for setting in found.row.settings if setting in counts]
    shared = next(one for one in settings if all(one in row for row in cells.values()))
    ranked = sorted(
        cells,
        key=lambda name: float(cells[name][shared].split()[0]),
        reverse=metric.higher_is_better,
    )
    rows = [
        f"| `{name}` | {' | '.join(cells[name].get(s, '-') for s in settings)} |" for name in ranked
    ]
    titles = [f"{setting} ({counts[setting]})" for setting in settings]
    head = [f"| {metric.label} | {' | '.join(titles)} |", f"|---{'|---:' * len(settings)}|"]
    return "\n".join([*head, *rows])


def _count(episodes: Rows) -> str:
    """How many episodes, and clusters of them if these are fewer."""
    count = len({episode["id"] for episode in episodes})
    fewer = {kind: some for kind, some in cluster_counts(episodes).items() if some < count}
    return f"{count}, {counted(fewer)}" if fewer else str(count)


def _comparisons(found: Finding) -> Iterator[str]:
    for one in told_once(found.report.comparisons):
        verdict = "no verdict" if one.verdict == "none" else one.verdict
        yield (
            f"- {one.setting}: `{one.checkpoint}` minus `{one.rival}` ({one.role}) "
            f"{digits(one.difference, '+')}: {verdict}"
        )


def tables(name: str) -> dict[tuple[str, str], str]:
    """What stands in which document, between which marks, of a row."""
    found = kept(name)
    if not any(found.results()):
        return {}
    if found.row.subject:
        gained = "\n".join([*pretraining.table(found), "", pretraining.statement(found)])
        return {("docs/results.md", f"findings {name}"): gained}
    whole = "\n".join([table(found), "", *_comparisons(found)]).rstrip()
    texts = {("docs/results.md", f"findings {name}"): whole}
    if name in TELLING:
        texts["README.md", f"findings {name}"] = table(found, TELLING[name])
    return texts


def leaderboards() -> dict[tuple[str, str], str]:
    """What stands in the page of ranks, by task."""
    boards = leaderboard.boards([kept(row.name) for row in read("full").rows])
    return {
        ("docs/leaderboard.md", f"leaderboard {task}"): "\n".join(
            leaderboard.lines_of(task, settings)
        ).strip()
        for task, settings in boards.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help="default: all")
    parser.add_argument("--quick", action="store_true", help="write nothing")
    args = parser.parse_args()
    found = leaderboards()
    for row in read("full").rows:
        if row.name in (args.rows or [row.name]):
            found |= tables(row.name)
    for (document, mark), text in found.items():
        if not args.quick:
            put(document, mark, text)
        print(f"{document}, {mark}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
