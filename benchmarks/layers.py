"""Quality and cost of bitrate models that keep more or fewer blocks of their backbone.

    python benchmarks/layers.py [--quick] [--checkpoint RUN ...] [--json FILE]
    python benchmarks/layers.py --documents FILE

For the shipped model and further runs: QoE of greedy roll-outs on 200 sessions of the validation
part, as training validates, and the CPU time of a decision in one session on one core, the policies
in turn, the median over several sessions. `--documents` writes the table of an earlier run's JSON
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
from _timing import TimedPolicy
from netllm import registry
from netllm.deciders.policy_spec import PolicySpec
from netllm.verbs.default_setting import trained_in
from netllm.verbs.validation import VALIDATION_SEED, figures
from netllm_adapt.checkpoint.config import read_config


def measured(names: list[str], *, quick: bool) -> list[dict[str, Any]]:
    """A row for each checkpoint."""
    task = registry.task("abr")
    specs = [PolicySpec("abr", checkpoint=name) for name in names]
    _, fields = trained_in(task, specs[0], None, {}, None)
    setting = task.setting("default", **fields)
    valid = task.episodes(setting, "valid", count=4 if quick else 200, seed=VALIDATION_SEED)
    policies = [spec.in_setting(setting).build(setting) for spec in specs]
    timed = [TimedPolicy(policy) for policy in policies]
    for number, episode in enumerate(valid[: 2 if quick else 8]):
        for one in timed:
            task.rollout(one, setting, [episode], seed=0)
            if not number:
                one.spent_ms.clear()
    return [
        {
            "checkpoint": spec.name,
            "layers": read_config(spec.in_setting(setting).found()).backbone.layers,
            "ms": float(np.median(one.spent_ms)),
            "validation": figures(task, policy, setting, valid),
        }
        for spec, policy, one in zip(specs, policies, timed, strict=True)
    ]


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
