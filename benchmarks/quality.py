"""The shipped ABR model beside every rival on the real settings, and the README's table of it.

    python benchmarks/quality.py [--quick] [--data DIR] [--checkpoint RUN ...] [--json FILE]

Needs the real data (`--data` or NETLLM_DATA) and the backbone (`netllm backbone pull`). `--readme`
writes the first setting's table between the marks in README.md, and its plots to docs/.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from netllm import registry, test
from netllm.plots import save
from netllm.report import Report
from netllm.table import markdown, show

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


def write_readme(report: Report) -> None:
    """The whole table of the first setting, and the plots."""
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    table = markdown(only(report, SETTINGS[0]))
    readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    save(only(report, SETTINGS[0]), registry.task("abr").draws, ROOT / "docs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ten episodes of `default`")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--checkpoint", nargs="*", default=[], help="further runs to compare")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--readme", action="store_true")
    args = parser.parse_args()
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
    if args.readme:
        write_readme(report)
    ours = next(one for one in report.results if one.checkpoint == "pretrained")
    print(f"pretrained on {ours.setting}: QoE {ours.metrics['qoe'].mean:.3f}")


if __name__ == "__main__":
    main()
