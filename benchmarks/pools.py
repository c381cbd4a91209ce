"""Peak memory and time of adapting to pools of more and more steps.

    python benchmarks/pools.py [--quick] [--backbone smollm2-135m] [--steps 60] [--json FILE]

Pools of abr, driven by `bba` on generated traces. Each is learned from in a process of its own, by
the task's recipe with so many optimiser steps of 8 rows and one validation of two episodes. All
times are the processor's: `adapt_s` of the whole, `scan_s` of the pass over the pool before it
learns, `read_s` of a batch of 8 rows in the order of training.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _machine import machine

EPISODE_STEPS = 48
SIZES = (10_000, 100_000, 1_000_000)
ONE = "--one"
"""Begins the command line of a process that measures one pool."""


def collect(folder: Path, steps: int) -> Path:
    """A pool of so many steps."""
    out = folder / f"pool-{steps}"
    command = (sys.executable, "-m", "netllm", "rl-collect", "abr", "--policy", "bba", "--quiet")
    count = ("--episodes", str(-(-steps // EPISODE_STEPS)), "--out", str(out))
    subprocess.run((*command, "--setting", "synthetic", *count), check=True)
    return out


def measure(pool: str, backbone: str, steps: int) -> dict[str, float]:
    """Adapt to a pool, in this process; its peak memory in GiB, and seconds of the processor."""
    import resource

    import netllm

    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"backbone": backbone, "steps": steps, "validate_every": steps}
        netllm.adapt("abr", pool=pool, out=Path(folder) / "run", validation=2, **options)
    adapted = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
    return {"peak_gib": peak, "adapt_s": adapted, **reading(pool)}


def reading(pool: str) -> dict[str, float]:
    """Seconds of the pass before the first step, and of reading a batch of 8 rows in order."""
    import numpy as np
    from netllm_adapt import Pool
    from netllm_adapt.batches import SegmentedEpisodes
    from netllm_adapt.training.order import Order

    def one_each(episode: Any) -> np.ndarray:
        return np.ones(len(episode.rewards), np.int64)

    begun = time.process_time()
    rows = SegmentedEpisodes(Pool(pool), size=one_each, segment=EPISODE_STEPS, window=20)
    scanned = time.process_time() - begun
    order, batches = Order(rows, batch=8, seed=0), 200
    begun = time.process_time()
    for step in range(batches):
        rows.batch(order.rows(step))
    return {"scan_s": scanned, "read_s": (time.process_time() - begun) / batches}


def measured(pool: Path, backbone: str, steps: int) -> dict[str, float]:
    """What `measure` finds in a fresh process."""
    command = (sys.executable, __file__, ONE, str(pool), backbone, str(steps))
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures: dict[str, float] = json.loads(told.splitlines()[-1])
    return figures


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small pools, few steps")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes, steps = (SIZES[:1], 2) if args.quick else (SIZES, args.steps)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            pool = collect(Path(folder), size)
            results[size] = measured(pool, args.backbone, steps)
    for size, figures in results.items():
        told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        print(f"{size:,} steps: {told}")
    if args.json:
        document = {"machine": machine(), "backbone": args.backbone, "optimiser_steps": steps}
        document["pools"] = {str(size): figures for size, figures in results.items()}
        args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if ONE in sys.argv[:2]:
        print(json.dumps(measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        main()
