"""How much better one ABR policy is than another on the same test sessions, with 95 % intervals.

python benchmarks/abr_differences.py [POLICY] [OTHER] [--setting NAME]... [--json FILE]

Both play every test session; the interval of the mean difference in QoE resamples access lines.
Parts of a test set (`clean`, `fresh`, …) have rows of their own. A policy may be `NAME:FILE.npz`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import netllm
from netllm import registry
from netllm.report.intervals import differences
from netllm.report.table import digits
from netllm_sims.abr import setting, settings

SETTINGS = ("default", "unseen-video", "unseen-bandwidth", "unseen-both", "many-starts")


def measure(name: str, ours: str, other: str, data: Path | None) -> list[dict[str, object]]:
    """Rows of one setting: all its test sessions, and each of their parts."""
    report = netllm.test("abr", policy=[ours, other], setting=name, data=data)
    mine, theirs = (
        next(one.episodes for one in report.results if one.policy == policy)
        for policy in (ours, other)
    )
    place = setting(name, data=data)
    parts = registry.task("abr").subsets(place, place.sessions("test"))
    found: list[dict[str, object]] = []
    for part, ids in {"all": {row["id"] for row in mine}, **parts}.items():
        some = ([row for row in rows if row["id"] in ids] for rows in (mine, theirs))
        delta = differences(*some, "qoe").estimate()
        print(f"{name:18}{part:10}{len(ids):6}  {digits(delta, '+')}", flush=True)
        found.append(
            {
                "setting": name,
                "part": part,
                "sessions": len(ids),
                "difference": delta.mean,
                "ci95": delta.ci95,
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", nargs="?", default="ppo-wide")
    parser.add_argument("other", nargs="?", default="ppo")
    parser.add_argument(
        "--setting", action="append", choices=settings(), help=f"default: {' '.join(SETTINGS)}"
    )
    parser.add_argument("--data", type=Path, help="folder of the real data, else NETLLM_DATA")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print(f"QoE of {args.policy} minus {args.other}, by setting, part and number of sessions")
    rows: list[dict[str, object]] = []
    for name in args.setting or SETTINGS:
        rows += measure(name, args.policy, args.other, args.data)
    if args.json:
        args.json.write_text(json.dumps({"results": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
