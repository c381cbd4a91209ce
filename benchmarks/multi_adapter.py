"""One training batch for three adapters against three batches, one for each.

    python benchmarks/multi_adapter.py [--quick] [--backbone NAME] [--json FILE]

A whole step (forward and backward pass) through the backbone on one core, query and value
projections, rank 32, as many rows of as many tokens for each adapter; CPU time, both ways in turn,
the fastest of several rounds. PEFT offers mixed batches for inference alone.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _machine import machine
from netllm_adapt import add_lora, load_backbone
from netllm_adapt.lora import adapters, train_adapters
from torch import Tensor

NAMES = ("abr", "cjs", "vp")
RANK = 32


def build(backbone: str, dtype: str) -> Any:
    model: Any = load_backbone(backbone, dtype=dtype)
    for seed, name in enumerate(NAMES):
        model = add_lora(model, rank=RANK, alpha=2 * RANK, name=name, seed=seed)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    return model


def step(model: Any, ids: list[str], rows: Tensor) -> None:
    train_adapters(model, NAMES)  # PEFT's `set_adapter` of the other way froze all but one
    with adapters(model, ids):
        model(inputs_embeds=rows, use_cache=False)[0].float().square().mean().backward()


def alone(model: Any, name: str, rows: Tensor) -> None:
    model.base_model.set_adapter(name)
    model(inputs_embeds=rows, use_cache=False)[0].float().square().mean().backward()


def fastest(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    best = dict.fromkeys(calls, math.inf)
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:  # the first warms up
                best[name] = min(best[name], time.process_time() - start)
    return best


def measure(backbone: str, dtype: str, rows: int, tokens: int, rounds: int) -> dict[str, Any]:
    model = build(backbone, dtype)
    width = model.config.hidden_size
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(rows * len(NAMES), tokens, width, generator=generator).to(model.dtype)
    ids = [name for name in NAMES for _ in range(rows)]
    mixed = torch.randperm(len(ids), generator=generator)
    parts = batch.split(rows)

    def separate() -> None:
        for name, part in zip(NAMES, parts, strict=True):
            alone(model, name, part)

    seconds = fastest(
        {
            "separate": separate,
            "sorted": lambda: step(model, ids, batch),
            "shuffled": lambda: step(model, [ids[i] for i in mixed], batch),
        },
        rounds,
    )
    ratios = {name: seconds[name] / seconds["separate"] for name in ("sorted", "shuffled")}
    return {"rows_each": rows, "tokens": tokens, "cpu_s": seconds, "ratio": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter rows, fewer rounds")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    shape = (1, 32, 1) if args.quick else (2, 160, 8)
    results: dict[str, Any] = {
        "machine": machine(),
        "backbone": args.backbone,
        "rank": RANK,
        "dtypes": {},
    }
    print(f"{args.backbone}, {len(NAMES)} adapters, {shape[0]} rows of {shape[1]} tokens each")
    print("CPU s       three steps   sorted rows   shuffled rows")
    for dtype in ("bfloat16", "float32"):
        result = results["dtypes"][dtype] = measure(args.backbone, dtype, *shape)
        seconds, ratio = result["cpu_s"], result["ratio"]
        print(
            f"{dtype:10} {seconds['separate']:12.3f} {seconds['sorted']:7.3f} "
            f"{ratio['sorted']:4.2f}x {seconds['shuffled']:9.3f} {ratio['shuffled']:4.2f}x",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    ratio = results["dtypes"]["bfloat16"]["ratio"]
    print(
        f"a mixed batch costs {ratio['sorted']:.2f} times the three steps, rows sorted by adapter; "
        f"{ratio['shuffled']:.2f} times in any order"
    )


if __name__ == "__main__":
    main()
