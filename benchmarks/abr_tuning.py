"""QoE of a rival with other numbers than its own, on validation sessions, the best first.

    python benchmarks/abr_tuning.py soda target=0.5,0.75 switching=1,2,4 [--setting live]
        [--sessions 200]

Plays the validation part of `default` or another setting, traces of the kind that its tests have,
with every combination of the values, with its own numbers where none are given; ten lines are
printed.
"""

from __future__ import annotations

import argparse
from importlib.metadata import entry_points
from itertools import product

from netllm import registry
from netllm_sims.abr import rollout, setting


def number(text: str) -> float:
    """A whole number where the text is one."""
    return int(text) if text.lstrip("-").isdigit() else float(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("policy", choices=registry.policies("abr"))
    parser.add_argument("values", nargs="*", metavar="FIELD=VALUE[,VALUE]...")
    parser.add_argument("--setting", default="default")
    parser.add_argument("--sessions", type=int, default=200)
    args = parser.parse_args()
    grid = {name: texts.split(",") for name, texts in (one.split("=") for one in args.values)}
    place = setting(args.setting, trace_name="http")
    sessions = place.sessions("valid", episodes=args.sessions)
    (point,) = entry_points(group="netllm.policies", name=f"abr.{args.policy}")
    build = point.load()
    rows = []
    for texts in product(*grid.values()):
        chosen = dict(zip(grid, texts, strict=True))
        policy = build(place, **{name: number(text) for name, text in chosen.items()})
        run = rollout(policy, place, sessions)
        parts = [run.qoe, run.bitrate_mbps, run.rebuffer_s, run.smoothness_mbps]
        rows.append(([float(part.mean()) for part in parts], chosen))
    print("     QoE    Mbps  stall s  change")
    for (qoe, mbps, stall_s, change), chosen in sorted(rows, key=lambda row: -row[0][0])[:10]:
        told = " ".join(f"{name}={text}" for name, text in chosen.items())
        print(f"{qoe:8.4f}{mbps:8.3f}{stall_s:9.4f}{change:8.3f}  {told}")


if __name__ == "__main__":
    main()
