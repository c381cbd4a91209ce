"""A linear layer with low-rank matrices: this project's operation against PEFT's own layer.

    python benchmarks/lora_op.py [--quick] [--dropout 0.0] [--json FILE]
    python benchmarks/lora_op.py --grouped [--quick] [--json FILE]

18 shapes on one core, forward and backward pass of one layer whose input needs a gradient, in
CPU time, the layers in turn, the fastest of several rounds. Three pairs: bfloat16 with bfloat16
matrices, bfloat16 with the float32 matrices that PEFT makes by default, and float32. "compiled"
is PEFT's layer under `torch.compile`, where a C++ compiler is found; "frozen" is the layer
without matrices. `--grouped` compares layers that share their input instead, of SmolLM2-135M's
shapes: `lora_linear_grouped` against `lora_linear` for each.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _machine import machine
from netllm_adapt.lora import LoraLinear, lora_linear, lora_linear_grouped
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

TOKENS, WIDTHS, RANKS = (160, 1280), (576, 1536, 2048), (16, 32, 128)
PAIRS = {
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "bfloat16, float32 matrices": (torch.bfloat16, torch.float32),
    "float32": (torch.float32, torch.float32),
}

# Outputs by input width 576, and whether each layer is adapted.
GROUPS = {
    "q, v adapted, k frozen": ((576, 192, 192), (True, False, True)),
    "q, k, v": ((576, 192, 192), (True, True, True)),
    "gate, up": ((1536, 1536), (True, True)),
}


def layer(
    kind: type[Linear], width: int, rank: int, dtypes: tuple[torch.dtype, torch.dtype], share: float
) -> Linear:
    base = nn.Linear(width, width, bias=False).to(dtypes[0]).requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=share)
    built = kind(base, "default", config, r=rank, lora_alpha=2 * rank)
    nn.init.normal_(built.lora_B["default"].weight, std=0.02)
    for matrices in (built.lora_A, built.lora_B):
        matrices.to(dtypes[1])
    return built


def clock(calls: dict[str, Callable[[], Any]], rounds: int, target_s: float) -> dict[str, float]:
    """The least CPU time of one call of each, in ms; every round gives each a turn."""
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.process_time()
        call()
        repeats[name] = max(1, round(target_s / max(time.process_time() - start, 1e-6)))
    best = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(repeats[name]):
                call()
            best[name] = min(best[name], (time.process_time() - start) / repeats[name])
    return {name: 1e3 * seconds for name, seconds in best.items()}


def passes(module: nn.Module, x: Tensor, grad: Tensor) -> dict[str, Callable[[], Any]]:
    leaves = x, *module.parameters()

    def both() -> None:
        for leaf in leaves:  # or their gradients would be added to those of the last call
            leaf.grad = None
        module(x).backward(grad)

    def forward() -> None:
        module(x)

    return {"forward": forward, "both": both}


def measure(
    tokens: int, width: int, rank: int, pair: str, options: argparse.Namespace
) -> dict[str, Any]:
    torch.manual_seed(0)
    dtypes = PAIRS[pair]
    x = torch.randn(tokens, width, dtype=dtypes[0], requires_grad=True)
    grad = torch.randn(tokens, width, dtype=dtypes[0])
    theirs = layer(Linear, width, rank, dtypes, options.dropout)
    ours = layer(LoraLinear, width, rank, dtypes, options.dropout)
    modules = {"peft": theirs, "ours": ours, "frozen": theirs.base_layer}
    if options.compile:
        torch._dynamo.reset()  # after eight shapes it would run the layer as it is
        modules["compiled"] = torch.compile(layer(Linear, width, rank, dtypes, options.dropout))
    times = {}
    for what in ("forward", "both"):
        calls = {name: passes(module, x, grad)[what] for name, module in modules.items()}
        times[what] = clock(calls, 3 if options.quick else 9, 0.02 if options.quick else 0.06)
    return {"tokens": tokens, "width": width, "rank": rank, "pair": pair, "cpu_ms": times}


def ratio(rows: list[dict[str, Any]], what: str, over: str, under: str = "ours") -> list[float]:
    return sorted(row["cpu_ms"][what][over] / row["cpu_ms"][what][under] for row in rows)


def mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    rivals = ["peft", "compiled"] if options.compile else ["peft"]
    print(f"{'their time / ours':34} forward mean (least..most)   with backward pass")
    for pair in PAIRS:
        some = [row for row in rows if row["pair"] == pair]
        for rival in rivals:
            cells = {what: ratio(some, what, rival) for what in ("forward", "both")}
            told = "   ".join(f"{mean(v):.2f} ({v[0]:.2f}..{v[-1]:.2f})" for v in cells.values())
            print(f"{pair + ', ' + rival:40} {told}", flush=True)
            summary[f"{pair}, {rival}"] = {
                what: {"mean": mean(v), "least": v[0], "most": v[-1]} for what, v in cells.items()
            }
    return summary


def measure_group(
    outputs: tuple[int, ...], adapted: tuple[bool, ...], rank: int, pair: str, quick: bool
) -> dict[str, float]:
    """CPU ms of a forward and backward pass over 1280 tokens, one by one and grouped."""
    torch.manual_seed(0)
    dtype, own = PAIRS[pair]
    x = torch.randn(TOKENS[1], WIDTHS[0], dtype=dtype, requires_grad=True)
    weights = [torch.randn(n, WIDTHS[0], dtype=dtype) / 24 for n in outputs]
    grads = [torch.randn(TOKENS[1], n, dtype=dtype) for n in outputs]
    matrices = [
        tuple(torch.randn(s, dtype=own).div_(24).requires_grad_() for s in ((rank, 576), (n, rank)))
        if has
        else None
        for n, has in zip(outputs, adapted, strict=True)
    ]
    leaves = x, *(part for two in matrices if two for part in two)

    def apart() -> None:
        given = zip(weights, matrices, strict=True)
        ys = [lora_linear(x, w, None, *two, 2.0) if two else F.linear(x, w) for w, two in given]
        torch.autograd.grad(ys, leaves, grads)

    def grouped() -> None:
        none, scales = [None] * len(outputs), [2.0] * len(outputs)
        ys = lora_linear_grouped(x, weights, none, matrices, scales)
        torch.autograd.grad(ys, leaves, grads)

    calls = {"one_by_one": apart, "grouped": grouped}
    return clock(calls, 3 if quick else 15, 0.02 if quick else 0.06)


def report_groups(options: argparse.Namespace) -> None:
    rows = []
    print(f"{'CPU ms':58} one by one  grouped   factor")
    for pair in PAIRS:
        for name, group in GROUPS.items():
            for rank in RANKS:
                times = measure_group(*group, rank, pair, options.quick)
                factor = times["one_by_one"] / times["grouped"]
                what = f"{pair}, {name}, rank {rank}"
                told = f"{times['one_by_one']:10.3f} {times['grouped']:8.3f} {factor:7.3f}x"
                print(f"{what:58} {told}", flush=True)
                rows.append({"pair": pair, "group": name, "rank": rank, "cpu_ms": times})
    if options.json:
        result = {"machine": machine(), "rows": rows}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two shapes and fewer rounds")
    parser.add_argument("--grouped", action="store_true", help="layers that share their input")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.compile = options.compile and bool(shutil.which("g++") or shutil.which("clang++"))
    torch.set_num_threads(1)
    if options.grouped:
        report_groups(options)
        return
    shapes = [(t, w, r) for t in TOKENS for w in WIDTHS for r in RANKS]
    rows = [
        measure(*shape, pair, options)
        for pair in PAIRS
        for shape in (shapes[:2] if options.quick else shapes)
    ]
    summary = report(rows, options)
    if options.json:
        result = {"machine": machine(), "dropout": options.dropout, "summary": summary}
        result["rows"] = rows
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    means = {pair: summary[f"{pair}, peft"]["both"]["mean"] for pair in PAIRS}
    told = ", ".join(f"{value:.2f} in {pair}" for pair, value in means.items())
    print(f"PEFT's CPU time over ours, forward and backward, geometric mean: {told}")


if __name__ == "__main__":
    main()
