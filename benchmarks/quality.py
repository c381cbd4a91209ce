"""The shipped ABR model beside every rival on the real settings, and the README's table of it.

    python benchmarks/quality.py [--quick] [--data DIR] [--checkpoint RUN ...] [--json FILE]
    python benchmarks/quality.py --readme FILE

Needs the real data (`--data` or NETLLM_DATA) and the backbone (`netllm backbone pull`). `--readme`
runs nothing: it writes the table of an earlier run's JSON between the marks in README.md. `--plots`
draws the first setting.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from netllm import registry, test
from netllm.plots import save
from netllm.report import Report
from netllm.table import show

ROOT = Path(__file__).parents[1]
RIVALS = ("bba", "bola", "panda", "mpc", "mpc-paper", "genet", "genet-greedy", "ppo", "hindsight")
SETTINGS = ("default", "unseen-video", "unseen-bandwidth", "unseen-both")
BEGIN, END = "<!-- quality: begin -->", "<!-- quality: end -->"


def only(report: Report, setting: str) -> Report:
    """The part of a report that is about one setting."""
    return replace(
        report,
        results=[one for one in report.results if one.setting == setting],
        comparisons=[one for one in report.comparisons if one.setting == setting],
    )


def table(document: dict[str, Any]) -> str:
    """Mean QoE of every policy in every setting, with its interval, and how ours compares."""
    cells: dict[str, dict[str, str]] = {}
    for one in document["results"]:
        qoe = one["metrics"]["qoe"]
        low, high = qoe["ci95"]
        row = cells.setdefault(one["checkpoint"] or one["policy"], {})
        row[one["setting"]] = f"{qoe['mean']:.3f} [{low:.3f}, {high:.3f}]"
    ranked = sorted(
        cells, key=lambda name: float(cells[name][SETTINGS[0]].split()[0]), reverse=True
    )
    rows = [f"| `{name}` | {' | '.join(cells[name][s] for s in SETTINGS)} |" for name in ranked]
    head = [f"| QoE | {' | '.join(SETTINGS)} |", f"|---{'|---:' * len(SETTINGS)}|"]
    return "\n".join([*head, *rows, "", *_comparisons(document)])


def _comparisons(document: dict[str, Any]) -> Iterator[str]:
    for one in document["comparisons"]:
        if one["checkpoint"] == "pretrained" and one["subset"] == "all":
            low, high = one["difference"]["ci95"]
            yield (
                f"- {one['setting']}: `pretrained` minus `{one['rival']}` ({one['role']}) "
                f"{one['difference']['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"
            )


def write_readme(results: Path) -> None:
    """Put the table of `results` between the marks."""
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    text = table(json.loads(results.read_text(encoding="utf-8")))
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ten episodes of `default`")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--checkpoint", nargs="*", default=[], help="further runs to compare")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path, help="folder of the first setting's plots")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.readme:
        write_readme(args.readme)
        print(f"README.md now holds the table of {args.readme}")
        return
    report = test(
        "abr",
        policy=RIVALS,
        checkpoint=["pretrained", *args.checkpoint],
        setting=SETTINGS[:1] if args.quick else SETTINGS,
        episodes=10 if args.quick else None,
        data=args.data,
    )
    show(report)
    if args.json:
        report.save(args.json)
    if args.plots:
        save(only(report, SETTINGS[0]), registry.task("abr").draws, args.plots)
    ours = next(one for one in report.results if one.checkpoint == "pretrained")
    print(f"pretrained on {ours.setting}: QoE {ours.metrics['qoe'].mean:.3f}")


if __name__ == "__main__":
    main()
