"""Shipped models beside every rival on the real settings, and the documents' tables of them.

    python benchmarks/quality.py [CASE] [--quick] [--data DIR] [--checkpoint RUN ...] [--json FILE]
    python benchmarks/quality.py [CASE] --only NAME ... [--settings NAME ...] --json FILE
    python benchmarks/quality.py [CASE] --again FILE
    python benchmarks/quality.py [CASE] --documents FILE

A case is a task, `vp-side`, viewport prediction where more than two seconds are known, or
`abr-six`, training seeds of the recipe with six blocks (`--only ppo-wide --checkpoint RUN ...`). It
needs the backbone (`netllm backbone pull`) and, for the published numbers, the real data (`--data`
or NETLLM_DATA); without it `--quick` runs on generated data, rivals that need its weights are left
out, and the output says so. With `--only` FILE keeps what it holds of others, and all are compared
anew; so slow ones, such as `rollout`, get in. `--again` runs nothing: it makes intervals, clusters
and comparisons of an earlier run's episodes anew, and writes them to its FILE. `--documents` runs
nothing either: it writes the table of an earlier run's JSON between the task's marks in
docs/results.md, and its few most telling rows into README.md. `--plots` draws the first setting.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from _documents import put
from netllm import registry, test
from netllm.deciders.policy_spec import PolicySpec
from netllm.report.compare import compare
from netllm.report.intervals import Estimate, cluster_counts, counted
from netllm.report.plots import save
from netllm.report.report import Report
from netllm.report.result import Comparison, Result, by_setting, saved_results, subsets, summarise
from netllm.report.table import digits, told_once


@dataclass(frozen=True)
class Case:
    """What is compared."""

    task: str
    rivals: tuple[str, ...]
    settings: tuple[str, ...]
    telling: tuple[str, ...]
    """Whom the README's table shows; everybody is in docs/results.md. Nobody: it has no table."""
    about: str = "pretrained"
    """The checkpoint whose comparisons are told."""


CASES = {
    "abr": Case(
        "abr",
        (
            *("bba", "bola", "panda", "mpc", "mpc-paper", "genet", "genet-greedy", "ppo"),
            *("ppo-wide", "hindsight"),
        ),
        ("default", "unseen-video", "unseen-bandwidth", "unseen-both"),
        ("hindsight", "pretrained", "random-smollm2-135m", "ppo-wide", "ppo", "mpc", "genet"),
    ),
    "abr-six": Case(
        "abr",
        ("ppo-wide",),
        ("default", "unseen-video", "unseen-bandwidth", "unseen-both"),
        (),
        about="seed-1",
    ),
    "cjs": Case(
        "cjs",
        (
            *("random", "fifo", "fair", "true-fifo", "srw", "critical-path", "weighted-fair"),
            *("tuned-share", "decima", "decima-greedy", "decima-ours"),
        ),
        ("default", "unseen-executors", "unseen-jobs", "unseen-both"),
        (
            *("rollout", "pretrained plan 12", "pretrained", "random-smollm2-135m", "scratch"),
            *("tuned-share", "decima", "fair"),
        ),
    ),
    "vp": Case(
        "vp",
        ("hold-last", "velocity", "linear-regression", "gru", "gru-dense", "track"),
        ("default", "unseen-horizon", "unseen-dataset", "unseen-both"),
        ("pretrained", "random-smollm2-135m", "scratch", "gru", "track", "hold-last"),
    ),
    "vp-side": Case(
        "vp",
        ("hold-last", "gru", "gru-side", "crowd-median"),
        ("memory", "crowd", "crowd-memory"),
        ("pretrained", "random-smollm2-135m", "scratch", "gru-side", "crowd-median", "hold-last"),
    ),
}


def only(report: Report, setting: str) -> Report:
    """The part of a report that is about one setting."""
    return replace(
        report,
        results=[one for one in report.results if one.setting == setting],
        comparisons=[one for one in report.comparisons if one.setting == setting],
    )


def again(case: Case, file: Path, data: Path | None) -> Report:
    """The report of a file with intervals, clusters and comparisons made anew of its episodes."""
    found = registry.task(case.task)
    results, members = [], {}
    for name, some in by_setting(saved_results(file)).items():
        place = found.setting(name, data=data)
        episodes = found.episodes(place, "test", count=None, seed=0)
        members[name] = found.subsets(place, episodes)
        together = found.clusters(place, episodes)
        for one in some:
            rows = [{**row, "cluster": together[row["id"]]} for row in one.episodes]
            spec = PolicySpec(case.task, policy=one.policy)
            declared = spec.declared(place) if one.policy else None
            results.append(
                replace(
                    one,
                    episodes=rows,
                    metrics=summarise(rows, found.metrics),
                    subsets=subsets(rows, found.metrics, members[name]),
                    knows=declared.knows if declared else one.knows,
                )
            )
    return Report(
        results=results,
        comparisons=compare(results, found, members),
        provenance=json.loads(file.read_text(encoding="utf-8"))["provenance"],
        metrics=found.metrics,
        bounds=found.bounds,
    )


def joined(case: Case, report: Report, file: Path, data: Path | None) -> Report:
    """The report, and what a file holds of other contenders and settings."""
    found, settings = registry.task(case.task), case.settings
    ran = {(one.setting, one.label) for one in report.results}
    old = [one for one in saved_results(file) if (one.setting, one.label) not in ran]
    results = sorted([*report.results, *old], key=lambda one: settings.index(one.setting))
    members = {}
    for name in dict.fromkeys(one.setting for one in results):
        place = found.setting(name, data=data)
        members[name] = found.subsets(place, found.episodes(place, "test"))
    before = json.loads(file.read_text(encoding="utf-8"))["provenance"]
    facts = {key: before[key] | report.provenance[key] for key in ("seeds", "data")}
    facts["left_out"] = _left_out(before, results)
    facts["notes"] = list(dict.fromkeys([*before["notes"], *report.provenance["notes"]]))
    return replace(
        report,
        results=results,
        comparisons=compare(results, found, members),
        provenance=report.provenance | facts,
    )


def _left_out(before: dict[str, Any], results: list[Result]) -> dict[str, dict[str, str]]:
    """By setting the rivals that an earlier run left out and none has run since, with reasons."""
    ran = {(one.setting, one.policy) for one in results}
    found = {
        setting: {name: why for name, why in reasons.items() if (setting, name) not in ran}
        for setting, reasons in before.get("left_out", {}).items()
    }
    return {setting: reasons for setting, reasons in found.items() if reasons}


def numbers(result: Result) -> Result:
    """The result with numbers only in its episodes; lists are for plots."""
    rows = [
        {key: value for key, value in row.items() if not isinstance(value, list)}
        for row in result.episodes
    ]
    return replace(result, episodes=rows)


def table(case: Case, document: dict[str, Any], only: tuple[str, ...] = ()) -> str:
    """The deciding metric of every policy, or of `only` some, in every setting."""
    metric = registry.task(case.task).metrics[0]
    cells: dict[str, dict[str, str]] = {}
    counts: dict[str, str] = {}
    for one in document["results"]:
        value = one["metrics"][metric.key]
        name = _name(one)
        counts[one["setting"]] = _count(one["episodes"])
        if not only or name in only:
            cells.setdefault(name, {})[one["setting"]] = digits(_estimate(value))
    settings = [setting for setting in case.settings if setting in counts]
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


def _name(result: dict[str, Any]) -> str:
    """What a row is called: without the folder of a run."""
    plans = f" plan {result['plan']}" if "plan" in result else ""
    return Path(result["checkpoint"] or result["policy"]).name + plans


def _count(episodes: list[dict[str, Any]]) -> str:
    """How many episodes, and clusters of them if these are fewer."""
    count = len({episode["id"] for episode in episodes})
    fewer = {kind: some for kind, some in cluster_counts(episodes).items() if some < count}
    return f"{count}, {counted(fewer)}" if fewer else str(count)


def _estimate(value: dict[str, Any]) -> Estimate:
    """As a report's JSON holds it."""
    return Estimate(value["mean"], tuple(value["ci95"]) if value["ci95"] else None)


def _comparisons(document: dict[str, Any], about: str) -> Iterator[str]:
    for one in told_once(msgspec.convert(document["comparisons"], list[Comparison])):
        if one.checkpoint.partition(" plan ")[0] == about and one.subset == "all":
            verdict = "no verdict" if one.verdict == "none" else one.verdict
            yield (
                f"- {one.setting}: `{one.checkpoint}` minus `{Path(one.rival).name}` "
                f"({one.role}) {digits(one.difference, '+')}: {verdict}"
            )


def tables(name: str, results: Path) -> dict[tuple[str, str], str]:
    """What stands in which document, between which marks, by the JSON of a run."""
    case, document = CASES[name], json.loads(results.read_text(encoding="utf-8"))
    whole = "\n".join([table(case, document), "", *_comparisons(document, case.about)])
    found = {("docs/results.md", f"quality {name}"): whole}
    if case.telling:
        found["README.md", f"quality {name}"] = table(case, document, case.telling)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="?", default="abr", choices=list(CASES))
    parser.add_argument("--quick", action="store_true", help="ten episodes of `default`")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--checkpoint", nargs="*", default=[], help="further runs to compare")
    parser.add_argument("--plan", type=int, metavar="N", help="checkpoints as planners, too")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run no other contender")
    parser.add_argument("--settings", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--jobs", type=int, default=1, help="pieces of work at once")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path, help="folder of the first setting's plots")
    parser.add_argument("--again", type=Path, metavar="FILE", help="JSON of an earlier run")
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        for (document, mark), text in tables(args.case, args.documents).items():
            put(document, mark, text)
            print(f"{document} now holds the table of {args.documents}")
        return
    case = CASES[args.case]
    if args.again:
        report = again(case, args.again, args.data)
        if args.plots:
            save(
                only(report, case.settings[0]),
                registry.task(case.task).draws,
                args.plots,
            )
        report.show()
        report.save(args.again)
        return
    named = args.only or ["pretrained"]
    report = test(
        case.task,
        policy=[name for name in named if name != "pretrained"],
        checkpoint=[*(["pretrained"] if "pretrained" in named else []), *args.checkpoint],
        rivals=() if args.only else case.rivals,
        plan=args.plan,
        setting=case.settings[:1] if args.quick else args.settings or case.settings,
        episodes=10 if args.quick else None,
        data=args.data,
        jobs=args.jobs,
    )
    if args.plots:
        save(only(report, case.settings[0]), registry.task(case.task).draws, args.plots)
    report = replace(report, results=[numbers(one) for one in report.results])
    if args.only and args.json and args.json.is_file():
        report = joined(case, report, args.json, args.data)
    report.show()
    if args.json:
        report.save(args.json)
    metric = registry.task(case.task).metrics[0]
    for one in report.results:
        if one.label in ("pretrained", *(args.only or [])):
            print(
                f"{one.label} on {one.setting}: {metric.label} {one.metrics[metric.key].mean:.3f}"
            )


if __name__ == "__main__":
    main()
