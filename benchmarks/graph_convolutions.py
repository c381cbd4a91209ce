"""Graph convolutions of the scheduler's encoder, each adapted by one recipe and validated.

    python benchmarks/graph_convolutions.py [--quick] [--backbone NAME] [--steps 150] [--json FILE]

All that differs is how a stage learns of its children, `adapt cjs --conv`: pool, recipe, seeds and
validation episodes are the same. The pool's labels are `decima-ours`'s, which looks at the graph
and often departs from the advice of `tuned-share` that the model sees. Printed are the mean loss of
held-out decisions, in nats, and the mean JCT of validation episodes, both from the validation part
and never from the test part: they tell a better convolution from a worse one, and are no results.
The default backbone is a tiny one with random weights, so that the graphs have the work to do.
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
from _machine import machine
from netllm_adapt import AdaptedModel, Pool
from netllm_adapt.batches import collate, plan

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two convolutions, a few steps")
    parser.add_argument("--backbone", default="tiny-random")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
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
    print("conv           weights  held-out nats   JCT s  CPU s of adapting")
    with TemporaryDirectory() as name:
        folder = Path(name)
        pools = (
            collected(folder / "train", "train", episodes),
            collected(folder / "valid", "valid", max(2, episodes // 2)),
        )
        for conv in convolutions:
            for seed in seeds:
                rows.append(measured(pools, folder / f"{conv}-{seed}", conv, seed, **options))
            own = [row for row in rows if row["conv"] == conv]
            mean = {
                key: float(np.mean([row[key] for row in own])) for key in own[0].keys() - {"conv"}
            }
            print(
                f"{conv:14} {mean['weights']:7.0f} {mean['held_out_nats']:14.3f} "
                f"{mean['jct_s']:7.2f} {mean['cpu_s']:6.1f}",
                flush=True,
            )
            if args.json:
                settings = {"set": JOBS, "episodes": episodes, **options}
                result = {"machine": machine(), "settings": settings, "runs": rows}
                args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
