"""What viewport predictions are worth in tile-based streaming: bits at equal viewport quality.

    python benchmarks/vp_tiles.py [--quick] [--policy NAME ...] [--checkpoint FOLDER ...]
                                  [--setting NAME] [--part PART] [--data DIR] [--quality 0.95]
                                  [--rates FILE.csv] [--json FILE]
    python benchmarks/vp_tiles.py --documents FILE

A player fetches the tiles in the predicted view and those within a margin of it in high quality,
the rest in low quality (`netllm_sims.vp.fetched_by_margin`). Everybody gets the margin at which
95 % of the tiles seen came in high quality, so that all show the same, and is compared by the bits
in high quality, as a share of the whole frame's. Between two margins, 2.5° apart, a share of the
windows has the wider one. `exact` knows the future and needs no margin: it shows all of what is
seen. Tiles take equal bits unless a table says others: a row of numbers per row of tiles, with
commas.

Intervals are those of `netllm test`, over viewers and videos. The margin is chosen anew for other
viewers, so each pair of viewer and video counts with its bits at the margin, less what its own
quality above or below 95 % would have taken of bits: the slope of the mean bits over the mean
quality. These have the mean of the bits, and to first order its error.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from _documents import put
from netllm import registry
from netllm.deciders.policy_spec import PolicySpec
from netllm.report.intervals import Rows, differences, extent, mean_of
from netllm.report.table import digits
from netllm_sims.vp import Clip, Setting, fetched_by_margin, rollout

DOCUMENT = "docs/tasks/vp.md"
POLICIES = ("hold-last", "velocity-unwrapped", "gru", "track", "vpt360")
MARGINS_DEG = [2.5 * step for step in range(73)]
NEAR = 2
"""Margins to either side over which the slope is taken: between two it jumps with single tiles."""
TILES = (6, 12)
HELD = "hold-last"
"""Whom the others are compared with."""


def predictions(spec: PolicySpec | None, place: Setting, clips: list[Clip]) -> list[np.ndarray]:
    """The viewports predicted in each clip; without a policy, those that came."""
    if spec is None:
        return [clip.future_deg for clip in clips]
    return rollout(spec.build(place), place, clips).predicted_deg


def at_quality(
    seen: np.ndarray, bits: np.ndarray, weights: np.ndarray, quality: float
) -> tuple[float, np.ndarray]:
    """The margin in degrees at which the mean quality is reached, and each clip's bits there.

    Args:
        seen: (clip, margin) shares of the tiles seen in high quality.
        bits: (clip, margin) shares of the frame's bits in high quality.
        weights: (clip,) windows.
        quality: wanted.
    """
    means, costs = (weights @ shares / weights.sum() for shares in (seen, bits))
    wide = int(np.argmax(means >= quality))
    if wide == 0:  # nobody gives bits back below no margin
        return 0.0, bits[:, 0]
    narrow = wide - 1
    share = (quality - means[narrow]) / (means[wide] - means[narrow])
    near = [max(0, narrow - NEAR), min(wide + NEAR, len(means) - 1)]
    slope = np.ptp(costs[near]) / np.ptp(means[near])
    own_seen, own_bits = (
        shares[:, narrow] * (1 - share) + shares[:, wide] * share for shares in (seen, bits)
    )
    margin_deg = MARGINS_DEG[narrow] * (1 - share) + MARGINS_DEG[wide] * share
    return float(margin_deg), own_bits - slope * (own_seen - quality)


def measured(
    spec: PolicySpec | None, place: Setting, clips: list[Clip], args: argparse.Namespace
) -> tuple[float, Rows]:
    """A policy's margin, and a row per clip for intervals."""
    rates = None if args.rates is None else np.loadtxt(args.rates, delimiter=",", ndmin=2)
    tiles = TILES if rates is None else (rates.shape[0], rates.shape[1])
    how: dict[str, Any] = {"fov_deg": place.fov_deg, "tiles": tiles, "rates": rates}
    pairs = zip(predictions(spec, place, clips), clips, strict=True)
    found = [fetched_by_margin(made, clip.future_deg, MARGINS_DEG, **how) for made, clip in pairs]
    seen, bits = (np.stack([one[i].mean(axis=0) for one in found]) for i in range(2))
    weights = np.array([len(clip) for clip in clips], dtype=float)
    margin_deg, own = at_quality(seen, bits, weights, args.quality)
    clusters = registry.task("vp").clusters(place, clips)
    return margin_deg, [
        {"id": clip.id, "weight": len(clip), "bits": float(value), "cluster": clusters[clip.id]}
        for clip, value in zip(clips, own, strict=True)
    ]


def table(document: Mapping[str, Any]) -> str:
    """A row for each policy, the fewest bits first."""
    heads = ["margin °", "% of bits in high quality [95 %]", f"minus `{HELD}` [95 %]"]
    lines = [f"| {document['extent']} | {' | '.join(heads)} |", "|---|---:|---:|---:|"]
    for row in sorted(document["policies"], key=lambda one: float(one["bits"]["mean"])):
        cells = [_percent(row[key], sign) for key, sign in (("bits", ""), ("difference", "+"))]
        name = f"`{row['policy']}`"
        lines.append(f"| {name} | {row['margin_deg']:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(estimate: Mapping[str, Any] | None, sign: str) -> str:
    """A share with its interval, in per cent."""
    if estimate is None:
        return ""
    low_high = estimate["ci95"]
    values = [f"{100 * one:{sign}.1f}" for one in (estimate["mean"], *(low_high or ()))]
    return values[0] + (f" [{values[1]}, {values[2]}]" if low_high else "")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two policies, six pairs")
    parser.add_argument("--policy", nargs="*", default=list(POLICIES))
    parser.add_argument("--checkpoint", nargs="*", default=["pretrained"])
    parser.add_argument("--setting", default="default")
    parser.add_argument("--part", default="test")
    parser.add_argument("--data", type=Path, help="folder of the real data, else NETLLM_DATA")
    parser.add_argument("--quality", type=float, default=0.95, help="of the tiles seen; 0.95")
    parser.add_argument("--rates", type=Path, help="bits of each tile, a CSV file without header")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if not 0 < args.quality <= 1:
        parser.error(f"--quality must lie in (0, 1], got {args.quality}.")
    return args


def main() -> None:
    args = options()
    if args.documents:
        put(DOCUMENT, "tiles", table(json.loads(args.documents.read_text())))
        print(f"{DOCUMENT} now holds the table of {args.documents}")
        return
    place: Setting = registry.task("vp").setting(args.setting, data=args.data)
    clips = place.clips(args.part, episodes=6 if args.quick else None)
    policies = [HELD, *(name for name in args.policy if name != HELD)]
    specs: dict[str, PolicySpec | None] = {"exact": None}
    specs |= {name: PolicySpec("vp", policy=name) for name in policies[: 2 if args.quick else None]}
    for folder in () if args.quick else args.checkpoint:
        specs[Path(folder).name] = PolicySpec("vp", checkpoint=folder).in_setting(place)
    rows: dict[str, Rows] = {}
    document: dict[str, Any] = {
        "setting": place.name,
        "part": args.part,
        "synthetic": place.synthetic,
        "quality": args.quality,
        "rates": args.rates and args.rates.name,
        "policies": [],
    }
    for name, spec in specs.items():
        margin_deg, rows[name] = measured(spec, place, clips, args)
        document["extent"] = f"{place.name}, {extent(rows[name])}"
        bits = mean_of(rows[name], "bits")
        print(f"{name}: margin {margin_deg:.1f}°, bits {digits(bits)}", flush=True)
        found = {"policy": name, "margin_deg": margin_deg, "bits": asdict(bits)}
        document["policies"].append(found)
    for found in document["policies"]:
        paired = differences(rows[found["policy"]], rows[HELD], "bits").estimate()
        found["difference"] = None if found["policy"] == HELD else asdict(paired)
    print(table(document))
    if args.json:
        args.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
