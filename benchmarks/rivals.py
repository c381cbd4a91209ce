"""QoE of every ABR rival on the test sessions of the settings, with 95 % intervals.

python benchmarks/rivals.py [--setting NAME]... [--policy NAME]... [--quick] [--json FILE]

Clean: sessions whose trace occurs in no training file. Policies with published random streams run
with the seed of the publication. `--quick` plays the first 10 sessions only.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from netllm import registry
from netllm.report.intervals import Sample
from netllm_baselines.abr.genet import PUBLISHED_SEED
from netllm_sims.abr import Session, Setting, rollout, setting, settings
from netllm_sims.rollout import is_sequential

SETTINGS = ("default", "unseen-video", "unseen-bandwidth", "unseen-both", "synthetic")
POLICIES = (
    "random",
    "panda",
    "throughput",
    "l2a",
    "bba",
    "genet-greedy",
    "genet",
    "mpc-paper",
    "bola",
    "dynamic",
    "comyco",
    "steady",
    "mpc",
    "fugu",
    "soda",
    "ppo",
    "ppo-sampled",
    "ppo-wide",
    "hindsight",
)
Row = dict[str, Any]


def summary(qoe: np.ndarray) -> Row:
    """Mean over sessions and its 95 % interval."""
    return {**asdict(Sample(qoe).estimate()), "sessions": len(qoe)}


def measure(name: str, chosen: Setting, sessions: list[Session]) -> Row:
    """One row of the table; a policy that this setting or data folder cannot serve says why."""
    row: Row = {"setting": chosen.name, "synthetic": chosen.synthetic, "policy": name}
    try:
        policy = registry.policy("abr", name, chosen)
    except registry.Unbuildable as error:
        return {**row, "error": str(error)}
    seed = PUBLISHED_SEED if is_sequential(policy) else 0
    run = rollout(policy, chosen, sessions, seed=seed)
    clean = np.array(["clean" in session.tags for session in sessions])
    row |= {"seed": seed, "seconds": run.seconds, "qoe": summary(run.qoe)}
    if clean.any() and not clean.all():
        row["qoe_clean"] = summary(run.qoe[clean])
    for part in ("bitrate_mbps", "rebuffer_s", "smoothness_mbps"):
        row[part] = float(getattr(run, part).mean())
    return row


def line(row: Row) -> str:
    """The row as text."""
    if "error" in row:
        return f"{row['setting']:17}{row['policy']:17}{row['error']}"
    cells = [row["qoe"], row.get("qoe_clean")]
    texts = [
        f"{c['mean']:8.4f} [{c['ci95'][0]:.3f}, {c['ci95'][1]:.3f}]" if c else "" for c in cells
    ]
    return (
        f"{row['setting']:17}{row['policy']:17}{texts[0]:28}{texts[1]:28}{row['bitrate_mbps']:7.3f}"
        f"{row['rebuffer_s']:8.4f}{row['smoothness_mbps']:8.3f}{row['seconds']:8.1f}"
    )


def conclusion(rows: list[Row]) -> str:
    """The best rival of each setting against hindsight."""
    parts = []
    for name in dict.fromkeys(row["setting"] for row in rows):
        means = {
            row["policy"]: row["qoe"]["mean"]
            for row in rows
            if row["setting"] == name and "qoe" in row
        }
        bound = means.pop("hindsight", None)
        if means:
            best = max(means, key=lambda policy: means[policy])
            of = "" if bound is None else f" of {bound:.3f} in hindsight"
            parts.append(f"{name}: {best} {means[best]:.3f}{of}")
    return "best rival: " + "; ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--setting", action="append", choices=settings(), help=f"default: {' '.join(SETTINGS)}"
    )
    known = registry.policies("abr")
    parser.add_argument(
        "--policy", action="append", choices=known, help=f"default: {' '.join(POLICIES)}"
    )
    parser.add_argument("--data", type=Path, help="folder of the real data, else NETLLM_DATA")
    parser.add_argument("--quick", action="store_true", help="the first 10 sessions only")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[Row] = []
    print(
        f"{'setting':17}{'policy':17}{'QoE [95 %]':>10}{'':18}{'clean [95 %]':>12}{'':16}"
        f"{'Mbps':>7}{'stall s':>8}{'change':>8}{'run s':>8}"
    )
    for name in args.setting or SETTINGS:
        try:
            chosen = setting(name, data=args.data)
        except FileNotFoundError as error:
            print(f"{name:17}{error}")
            continue
        if chosen.synthetic and name != "synthetic":
            print(f"{name:17}No real data, so seeded generators stand in; see --data.")
        sessions = chosen.sessions("test")[: 10 if args.quick else None]
        for policy in args.policy or POLICIES:
            rows.append(measure(policy, chosen, sessions))
            print(line(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"results": rows}, indent=2) + "\n")
    print(conclusion(rows))


if __name__ == "__main__":
    main()
