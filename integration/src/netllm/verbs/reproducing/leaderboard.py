"""The leaderboard: whoever was tested in a setting of a task, ranked by the task's metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netllm import registry
from netllm.report.compare import verdict_of
from netllm.report.intervals import Estimate, differences, extent
from netllm.report.result import Result, best_first
from netllm.report.table import digits
from netllm.verbs.reproducing.findings import Finding, share_of
from netllm.verbs.reproducing.ledger import Entry

RULE = (
    "Ranked by the mean. Differences to the first are paired by episode, with their 95 % "
    "intervals; *level* means that the interval holds zero. Who knows the future is a bound, and "
    "has no rank. The share of the bound is told where both are above zero and more is better."
)


@dataclass(frozen=True)
class Standing:
    """Somebody's line in a setting."""

    label: str
    rank: int | None
    """None of a bound."""
    mean: Estimate
    share: float | None
    """Of what the bound reaches; None where no bound is, or a share says nothing."""
    to_first: Estimate | None
    """Mean difference to the first; None of the first itself, and of a bound."""
    verdict: str
    """How it stands to the first: `behind`, `level`, `none` with too few episodes, or empty."""
    entry: Entry


Tested = list[tuple[str, Entry, Result]]


def boards(findings: Sequence[Finding]) -> dict[str, dict[str, Tested]]:
    """By task and setting who was tested, with labels that are unique there.

    Rows that ask what pre-training is worth hold shorter trainings, and are left out. A label that
    two rows have is told with the row's name; the same finding of two rows once. Rows that override
    a setting, or test fewer of its episodes, have boards of their own.
    """
    found: dict[str, dict[str, Tested]] = {}
    for one in findings:
        row = one.row
        own = [f"{field}={value}" for field, value in row.set.items()]
        own += [f"{row.episodes} episodes"] if row.episodes else []
        for line, entry, result in () if row.subject else one.results():
            where = ", ".join([line.setting, *own])
            board = found.setdefault(row.task, {}).setdefault(where, [])
            if entry.command in [other.command for _, other, _ in board]:
                continue
            taken = [label for label, _, _ in board]
            label = line.who.label
            board.append((f"{row.name}/{label}" if label in taken else label, entry, result))
    return found


def standings(tested: Tested, task: str) -> list[Standing]:
    """The lines of one setting, the best first.

    Raises:
        ValueError: Two were tested on different episodes.
    """
    metric, bounds = registry.task(task).metrics[0], registry.task(task).bounds
    ranked = best_first([result for _, _, result in tested], metric)
    rivals = [one for one in ranked if one.policy not in bounds]
    bound = next((one for one in ranked if one.policy in bounds), None)
    of = {id(result): (label, entry) for label, entry, result in tested}
    lines = []
    for one in ranked:
        label, entry = of[id(one)]
        to_first = None
        if one.policy not in bounds and one is not rivals[0]:
            to_first = differences(one.episodes, rivals[0].episodes, metric.key).estimate()
        lines.append(
            Standing(
                label=label,
                rank=None if one.policy in bounds else rivals.index(one) + 1,
                mean=one.metrics[metric.key],
                share=share_of(one, bound, metric),
                to_first=to_first,
                verdict=verdict_of(to_first, metric) if to_first else "",
                entry=entry,
            )
        )
    return lines


def table(tested: Tested, task: str) -> list[str]:
    """One setting in Markdown."""
    metric = registry.task(task).metrics[0]
    head = f"| | who | {metric.label} | of the bound | minus the first | | made | tested by |"
    lines = [head, "|---:|---|---:|---:|---:|---|---|---|"]
    start = f"netllm test {task} --setting {tested[0][2].setting} "
    for one in standings(tested, task):
        made = one.entry.made
        cells = (
            "" if one.rank is None else f"{one.rank}",
            f"`{one.label}`" + (" (bound)" if one.rank is None else ""),
            digits(one.mean),
            "" if one.share is None else f"{one.share:.1%}",
            "" if one.to_first is None else digits(one.to_first, "+"),
            "no verdict" if one.verdict == "none" else one.verdict,
            f"{made['made_at'][:10]}, {made['versions']['netllm']}",
            f"`{one.entry.command.removeprefix(start)}`",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def lines_of(task: str, settings: dict[str, Tested]) -> Iterator[str]:
    """All settings of a task in Markdown, under headings of the third level.

    Args:
        task: its name.
        settings: what `boards` found of it.
    """
    for where, tested in settings.items():
        result = tested[0][2]
        yield from (f"### {task}: {where}", "")
        yield from (
            f"{extent(result.episodes)}; `netllm test {task} --setting {result.setting}`",
            "",
        )
        yield from (*table(tested, task), "")
