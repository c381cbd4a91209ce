"""A task's shipped model beside every rival on the real settings, and the README's table of it.

    python benchmarks/quality.py [TASK] [--quick] [--data DIR] [--checkpoint RUN ...] [--json FILE]
    python benchmarks/quality.py [TASK] --readme FILE

Needs the real data (`--data` or NETLLM_DATA) and the backbone (`netllm backbone pull`). `--readme`
runs nothing: it writes the table of an earlier run's JSON between the task's marks in README.md.
`--plots` draws the first setting.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netllm import registry, test
from netllm.plots import save
from netllm.report import Report
from netllm.table import show

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """What is compared in one task."""

    rivals: tuple[str, ...]
    settings: tuple[str, ...]


CASES = {
    "abr": Case(
        ("bba", "bola", "panda", "mpc", "mpc-paper", "genet", "genet-greedy", "ppo", "hindsight"),
        ("default", "unseen-video", "unseen-bandwidth", "unseen-both"),
    ),
    "cjs": Case(
        (
            *("random", "fifo", "fair", "true-fifo", "srw", "critical-path", "weighted-fair"),
            *("tuned-share", "decima", "decima-greedy", "decima-ours"),
        ),
        ("default", "unseen-executors", "unseen-jobs", "unseen-both"),
    ),
    "vp": Case(
        ("hold-last", "velocity", "linear-regression", "gru", "gru-dense", "track"),
        ("default", "unseen-horizon", "unseen-dataset", "unseen-both"),
    ),
}


def only(report: Report, setting: str) -> Report:
    """The part of a report that is about one setting."""
    return replace(
        report,
        results=[one for one in report.results if one.setting == setting],
        comparisons=[one for one in report.comparisons if one.setting == setting],
    )


def table(task: str, document: dict[str, Any]) -> str:
    """The deciding metric of every policy, over so many episodes of every setting; comparisons."""
    metric = registry.task(task).metrics[0]
    cells: dict[str, dict[str, str]] = {}
    counts: dict[str, int] = {}
    for one in document["results"]:
        value = one["metrics"][metric.key]
        low, high = value["ci95"]
        row = cells.setdefault(Path(one["checkpoint"] or one["policy"]).name, {})
        row[one["setting"]] = f"{value['mean']:.3f} [{low:.3f}, {high:.3f}]"
        counts[one["setting"]] = len({episode["id"] for episode in one["episodes"]})
    settings = [setting for setting in CASES[task].settings if setting in counts]
    ranked = sorted(
        cells,
        key=lambda name: float(cells[name][settings[0]].split()[0]),
        reverse=metric.higher_is_better,
    )
    rows = [
        f"| `{name}` | {' | '.join(cells[name].get(s, '-') for s in settings)} |" for name in ranked
    ]
    titles = [f"{setting} ({counts[setting]})" for setting in settings]
    head = [f"| {metric.label} | {' | '.join(titles)} |", f"|---{'|---:' * len(settings)}|"]
    return "\n".join([*head, *rows, "", *_comparisons(document)])


def _comparisons(document: dict[str, Any]) -> Iterator[str]:
    for one in document["comparisons"]:
        if one["checkpoint"] == "pretrained" and one["subset"] == "all":
            low, high = one["difference"]["ci95"]
            yield (
                f"- {one['setting']}: `pretrained` minus `{Path(one['rival']).name}` "
                f"({one['role']}) {one['difference']['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"
            )


def write_readme(task: str, results: Path) -> None:
    """Put the table of `results` between the task's marks."""
    begin, end = (f"<!-- quality {task}: {which} -->" for which in ("begin", "end"))
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    text = table(task, json.loads(results.read_text(encoding="utf-8")))
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", nargs="?", default="abr", choices=list(CASES))
    parser.add_argument("--quick", action="store_true", help="ten episodes of `default`")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--checkpoint", nargs="*", default=[], help="further runs to compare")
    parser.add_argument("--jobs", type=int, default=1, help="pieces of work at once")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path, help="folder of the first setting's plots")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.readme:
        write_readme(args.task, args.readme)
        print(f"README.md now holds the table of {args.readme}")
        return
    case = CASES[args.task]
    report = test(
        args.task,
        policy=case.rivals,
        checkpoint=["pretrained", *args.checkpoint],
        setting=case.settings[:1] if args.quick else case.settings,
        episodes=10 if args.quick else None,
        data=args.data,
        jobs=args.jobs,
    )
    show(report)
    if args.json:
        report.save(args.json)
    if args.plots:
        save(only(report, case.settings[0]), registry.task(args.task).draws, args.plots)
    ours = next(one for one in report.results if one.checkpoint == "pretrained")
    metric = registry.task(args.task).metrics[0]
    print(f"pretrained on {ours.setting}: {metric.label} {ours.metrics[metric.key].mean:.3f}")


if __name__ == "__main__":
    main()
