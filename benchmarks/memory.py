"""Peak memory of adapting, of collecting a pool and of testing; each in a process of its own.

python benchmarks/memory.py [--quick] [--backbone smollm2-135m] [--only adapt] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

GIB = 2**30
BATCH, TOKENS, RANK = 8, 384, 32


def adapt(backbone: str, steps: int) -> None:
    """Optimiser steps of 8 rows of 384 tokens at once, all layers."""
    from netllm_adapt import add_lora, load_backbone

    train(add_lora(load_backbone(backbone), rank=RANK), backbone, steps)


def adapt_peft(backbone: str, steps: int) -> None:
    """The same through PEFT's own layers and the library's own modules."""
    from netllm_adapt import load_backbone
    from netllm_adapt.llama.training import library_training
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["q_proj", "v_proj"])
    with library_training(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(get_peft_model(load_backbone(backbone), config), backbone, steps)


def train(lora: Any, backbone: str, steps: int) -> None:
    """The project's training loop over synthetic episodes, no row left for a further pass."""
    import numpy as np
    from netllm_adapt import AdaptedModel, BackboneSpec, Episode, Recipe
    from netllm_adapt.training.loop import fit
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
    width = lora.config.hidden_size
    model = AdaptedModel(
        backbone=lora,
        encoder=Step(width=width, fields={f: {"kind": "scalar"} for f in fields}, actions=6),
        head=Categorical(width=width, answers=6),
        spec=BackboneSpec(backbone),
        segment=TOKENS,
    )
    recipe = Recipe(steps=steps, batch=BATCH, micro_batch=BATCH)
    with tempfile.TemporaryDirectory() as folder:
        fit(model, episodes, recipe=recipe, out=Path(folder) / "run")


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
    "adapt": Part(f"adapting {BATCH} x {TOKENS} tokens at once", adapt, 4, 2),
    "adapt_peft": Part("the same with PEFT's own layers", adapt_peft, 4, 2),
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


def write(path: Path, results: dict[str, float]) -> None:
    """Results beside those of other parts that the file holds, if this machine measured them."""
    from _machine import machine  # the measured processes read this file, and need no torch

    document = {"machine": machine()}
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if earlier["machine"] == document["machine"]:
            document = earlier
    path.write_text(json.dumps(document | results, indent=2) + "\n", encoding="utf-8")


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
        write(args.json, results)
    print("peak memory: " + ", ".join(told))


if __name__ == "__main__":
    main()
