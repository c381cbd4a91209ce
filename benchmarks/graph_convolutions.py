"""Graph convolutions of the scheduler's encoder, each adapted by one recipe and validated.

    python benchmarks/graph_convolutions.py [--quick] [--backbone NAME] [--steps 100] [--json FILE]
    python benchmarks/graph_convolutions.py --documents FILE

All that differs is how a stage learns of its children, `adapt cjs --conv`: pool, recipe, seeds and
validation episodes are the same. The pool's labels are `decima-ours`'s, which looks at the graph
and often departs from the advice of `tuned-share` that the model sees. Printed are the mean loss of
held-out decisions, in nats, and the mean JCT of validation episodes, both from the validation part
and never from the test part: they tell a better convolution from a worse one, and are no results.
The default backbone is a tiny one with random weights, so that the graphs have the work to do.
`--documents` puts the table of an earlier run between the marks in docs/tasks/cjs.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import netllm
import numpy as np
import torch
from _documents import put
from _machine import machine
from netllm_adapt import AdaptedModel, Pool
from netllm_adapt.batches import collate, plan

DOCUMENT = "docs/tasks/cjs.md"
CONVOLUTIONS = ("decima", "gin", "gat", "sage")
JOBS = {"num_jobs": 20}
SEEDS = (0, 1)


def collected(out: Path, part: str, episodes: int) -> Pool:
    """A pool in which `tuned-share` decides, and `decima-ours` says what it would have done."""
    return netllm.rl_collect(
        "cjs",
        policy=["tuned-share"],
        relabel="decima-ours",
        soft=False,
        part=part,
        episodes=episodes,
        set=JOBS,
        out=out,
    )


@torch.inference_mode()
def held_out_nats(model: AdaptedModel, pool: Pool) -> float:
    """The mean loss of a pool's decisions."""
    episodes = list(pool)
    sizes = [model.sizes(episode) for episode in episodes]
    nats, decisions = 0.0, 0
    for segment in plan(sizes, segment=model.segment, window=model.window):
        batch = collate(episodes, [segment])
        nats += float(model(batch).sum())
        decisions += int(batch.learn.sum())
    return nats / decisions


def measured(pools: tuple[Pool, Pool], out: Path, conv: str, seed: int, **options: Any) -> Any:
    """What one adapted model reaches in validation, and the CPU time of its adaptation."""
    learned, held_out = pools
    begun = time.process_time()
    model = netllm.adapt("cjs", pool=learned.path, out=out, conv=conv, seed=seed, **options)
    return {
        "conv": conv,
        "seed": seed,
        "cpu_s": time.process_time() - begun,
        "held_out_nats": held_out_nats(model, held_out),
        "jct_s": model.about["validation jct_s"],
        "weights": sum(weight.numel() for weight in model.encoder.levels.rounds.parameters()),
    }


def table(document: dict[str, Any]) -> str:
    """A row for each convolution, means over the seeds."""
    rows = [
        "| `--conv` | weights of a round's layers | held-out loss, nats | validation JCT, s | "
        "adapting, CPU s |",
        "|---|---:|---:|---:|---:|",
    ]
    runs = document["runs"]
    for conv in dict.fromkeys(run["conv"] for run in runs):
        own = [run for run in runs if run["conv"] == conv]
        weights, nats, jct_s, cpu_s = (
            np.mean([run[key] for run in own])
            for key in ("weights", "held_out_nats", "jct_s", "cpu_s")
        )
        rows.append(f"| `{conv}` | {weights:,.0f} | {nats:.3f} | {jct_s:.2f} | {cpu_s:.1f} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two convolutions, a few steps")
    parser.add_argument("--backbone", default="tiny-random")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        put(DOCUMENT, "convolutions", table(json.loads(args.documents.read_text())))
        print(f"{DOCUMENT} now holds the table of {args.documents}")
        return
    torch.set_num_threads(1)
    convolutions, seeds = (CONVOLUTIONS[:2], SEEDS[:1]) if args.quick else (CONVOLUTIONS, SEEDS)
    steps, episodes = (2, 2) if args.quick else (args.steps, 12)
    options = {"backbone": args.backbone, "steps": steps, "validate_every": steps, "batch": 2}
    options |= {
        "validation": 2 if args.quick else 6,
        "target_return": -30.0,
        "micro_batch": 2,
        "average": 0.9,
    }
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        pools = (
            collected(folder / "train", "train", episodes),
            collected(folder / "valid", "valid", max(2, episodes // 2)),
        )
        for conv in convolutions:
            for seed in seeds:
                rows.append(measured(pools, folder / f"{conv}-{seed}", conv, seed, **options))
            settings = {"set": JOBS, "episodes": episodes, **options}
            result = {"machine": machine(), "settings": settings, "runs": rows}
            print(table(result).splitlines()[-1], flush=True)
            if args.json:
                args.json.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
