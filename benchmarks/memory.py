"""Peak memory of adapting, of collecting a pool and of testing; each in a process of its own.

python benchmarks/memory.py [--quick] [--backbone smollm2-135m] [--only adapt] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

GIB = 2**30
BATCH, TOKENS = 8, 384


def adapt(backbone: str, steps: int) -> None:
    """Optimiser steps of 8 rows of 384 tokens, all layers, the default micro-batch."""
    import numpy as np
    from netllm_adapt import AdaptedModel, BackboneSpec, Episode, Recipe, add_lora, load_backbone
    from netllm_adapt.training import fit
    from netllm_encoders import Step
    from netllm_heads import Categorical

    rng = np.random.default_rng(0)
    fields = [f"field_{i}" for i in range(6)]
    length = TOKENS // (len(fields) + 2)
    episodes = [
        Episode(
            id=str(i),
            policy="random",
            seed=i,
            observations={f: rng.uniform(size=length).astype(np.float32) for f in fields},
            actions=rng.integers(6, size=length),
            rewards=rng.uniform(size=length).astype(np.float32),
            labels=None,
            meta={},
        )
        for i in range(BATCH)
    ]
    plain = load_backbone(backbone)
    width = plain.config.hidden_size
    model = AdaptedModel(
        backbone=add_lora(plain, rank=32),
        encoder=Step(width=width, fields={f: {"kind": "scalar"} for f in fields}, actions=6),
        head=Categorical(width=width, answers=6),
        spec=BackboneSpec(backbone),
        segment=TOKENS,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(model, episodes, recipe=Recipe(steps=steps, batch=BATCH), out=Path(folder) / "run")


def collect(_: str, episodes: int) -> None:
    """A pool of synthetic episodes."""
    from netllm import rl_collect

    with tempfile.TemporaryDirectory() as folder:
        rl_collect(
            "abr",
            policy=["bba"],
            setting="synthetic",
            episodes=episodes,
            out=Path(folder) / "pool",
        )


def evaluate(_: str, episodes: int) -> None:
    """The shipped scheduler on `default`: 50 executors, 200 jobs."""
    from netllm import test

    test("cjs", checkpoint="pretrained", episodes=episodes)


class Part(NamedTuple):
    """What is measured, of how much."""

    title: str
    work: Callable[[str, int], None]
    amount: int
    quick: int


PARTS = {
    "adapt": Part(f"adapting at batch {BATCH} x {TOKENS} tokens", adapt, 4, 2),
    "collect": Part("collecting", collect, 2000, 200),
    "evaluate_cjs": Part("testing cjs", evaluate, 20, 1),
}


def _report(work: Callable[[str, int], None], backbone: str, amount: int, queue: object) -> None:
    work(backbone, amount)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    queue.put(peak)  # type: ignore[attr-defined]


def peak_bytes(work: Callable[[str, int], None], backbone: str, amount: int) -> int:
    """The largest resident size of a fresh process that does `work`."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_report, args=(work, backbone, amount, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} failed with exit code {process.exitcode}")
    return int(queue.get())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps and episodes")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results: dict[str, float] = {}
    told = []
    for name in args.only:
        part = PARTS[name]
        amount = part.quick if args.quick else part.amount
        results[name + "_gib"] = peak_bytes(part.work, args.backbone, amount) / GIB
        told.append(f"{part.title} {results[name + '_gib']:.2f} GiB")
    if args.json:
        from _machine import machine  # the measured processes read this file, and need no torch

        args.json.write_text(json.dumps({"machine": machine()} | results, indent=2) + "\n")
    print("peak memory: " + ", ".join(told))


if __name__ == "__main__":
    main()
