"""Quality and cost of bitrate models that keep more or fewer blocks of their backbone.

    python benchmarks/layers.py [--quick] [--checkpoint RUN ...] [--json FILE]
    python benchmarks/layers.py --documents FILE

For the shipped model and further runs: QoE on the validation part, as training noted it when it
chose the checkpoint, and the CPU time of a decision in one session on one core, the models in turn,
the median over several sessions. `--documents` writes the table of an earlier run's JSON
into docs/tasks/abr.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _documents import put
from _machine import machine
from _timing import timed_in_turn
from netllm import registry
from netllm.deciders.policy_spec import PolicySpec
from netllm_adapt.checkpoint.config import read_config


def measured(names: list[str], *, quick: bool) -> list[dict[str, Any]]:
    """A row for each checkpoint."""
    task = registry.task("abr")
    setting = task.setting("default")
    specs = [PolicySpec("abr", checkpoint=name).in_setting(setting) for name in names]
    episodes = task.episodes(setting, "valid", count=1 if quick else 12, seed=2)
    timed = timed_in_turn(task, [spec.build(setting) for spec in specs], setting, episodes)
    rows = []
    for spec, one in zip(specs, timed, strict=True):
        config = read_config(spec.found())
        found = {"step": config.about["step"], "qoe": config.about["validation qoe"]}
        layers, ms = config.backbone.layers, float(np.median(one.spent_ms))
        rows.append({"checkpoint": spec.name, "layers": layers, "ms": ms, "validation": found})
    return rows


def table(document: Mapping[str, Any]) -> str:
    """What was measured, for the document."""
    lines = ["| blocks kept | a decision | QoE on validation |", "|---:|---:|---:|"]
    for row in sorted(document["rows"], key=lambda row: row["layers"]):
        qoe = row["validation"]["qoe"]
        lines.append(f"| {row['layers']} | {row['ms']:.1f} ms | {qoe:.3f} |")
    return "\n".join(lines) + f"\n\nOne core, {document['machine']['cpu']}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--checkpoint", nargs="*", default=[], help="further runs")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        put("docs/tasks/abr.md", "layers", table(json.loads(args.documents.read_text())))
        print(f"docs/tasks/abr.md now holds the table of {args.documents}")
        return
    torch.set_num_threads(1)
    rows = measured(["pretrained", *args.checkpoint], quick=args.quick)
    document = {"machine": machine(), "rows": rows}
    print(table(document))
    if args.json:
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
