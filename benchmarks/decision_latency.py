"""One decision of an adapted model: the stream of decisions against re-encoding its window.

    python benchmarks/decision_latency.py [--quick] [--backbone NAME ...] [--batch 1]
        [--json FILE]

Window 20 steps x 8 tokens, warm, on one core, adapter merged. Three ways are measured in turn and
in CPU time, since other work may share the machine: the stream as it is (the lean pass where it
covers the backbone), the stream through the library's modules, and the library's pass over the
whole window. A fourth, reading as many bytes as the backbone's blocks hold, is the floor of any
pass that computes in that type.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import machine
from netllm_adapt import AdaptedModel, BackboneSpec, DecisionStream, add_lora, load_backbone
from netllm_adapt.batches import Batch
from netllm_adapt.stream.cuda_graphs import Record
from netllm_encoders import Step
from netllm_heads import Categorical

WINDOW, TOKENS = 20, 8
FIELDS = {name: {"kind": "scalar"} for name in ("a", "b", "c", "d", "e", "f")}


def build(name: str, dtype: str) -> AdaptedModel:
    spec = BackboneSpec(name, dtype=dtype)
    backbone = add_lora(load_backbone(name, dtype=dtype), rank=32)
    backbone.merge_adapter()
    width = backbone.config.hidden_size
    return AdaptedModel(
        backbone=backbone,
        encoder=Step(width=width, fields=FIELDS, actions=6),
        head=Categorical(width=width, answers=6),
        spec=spec,
        window=WINDOW,
        segment=min(4096, backbone.config.max_position_embeddings - WINDOW * TOKENS),
    ).eval()


def window_batch(batch: int) -> Batch:
    shape = (batch, WINDOW)
    return Batch(
        observations={name: torch.rand(shape) for name in FIELDS},
        returns=torch.rand(shape),
        actions=torch.zeros(shape, dtype=torch.long),
        labels=torch.zeros(shape, dtype=torch.long),
        learn=torch.ones(shape, dtype=torch.bool),
    )


def decider(
    model: AdaptedModel, batch: int, *, lean: bool | None, record: Record | None = None
) -> Callable[[], None]:
    stream = DecisionStream(model, batch=batch, lean=lean, record=record)
    observation = {name: torch.rand(batch, device=model.device) for name in FIELDS}
    action = None

    def decide() -> None:
        nonlocal action
        action = stream.decide(observation, torch.rand(batch, device=model.device), action)

    for _ in range(WINDOW + 5):
        decide()
    return decide


def reader(model: AdaptedModel) -> Callable[[], Any]:
    blocks = (p for name, p in model.backbone.named_parameters() if ".layers." in name)
    size = sum(p.numel() * p.element_size() for p in blocks if not p.requires_grad)
    return torch.ones(size // 8, dtype=torch.int64).sum


def measure(model: AdaptedModel, decisions: int, batch: int) -> dict[str, Any]:
    rows = window_batch(batch)

    @torch.inference_mode()
    def encode() -> None:
        model.head.answer(model.hidden(rows), rows.observations)

    calls = {
        "decision": decider(model, batch, lean=None),
        "library_decision": decider(model, batch, lean=False),
        "re_encoding": encode,
        "reading_weights": reader(model),
    }
    encode()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(decisions):
        for name, call in calls.items():
            cpu, wall = time.process_time(), time.perf_counter()
            call()
            spent = (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3
            times[name].append(spent)
    result: dict[str, Any] = {}
    for name, pairs in times.items():
        for clock, values in zip(("cpu", "wall"), np.array(pairs).T, strict=True):
            p50, p99 = np.percentile(values, (50, 99))
            result[f"{name}_{clock}_ms"] = {"min": min(values), "p50": p50, "p99": p99}
    once, again = (result[f"{name}_cpu_ms"]["p50"] for name in ("decision", "re_encoding"))
    return result | {"speedup": again / once}


def weights_gib(model: AdaptedModel) -> float:
    """What the backbone's weights take, without the embedding of words, which is never read."""
    parts = (p for name, p in model.backbone.named_parameters() if "embed_tokens" not in name)
    size: int = sum(p.numel() * p.element_size() for p in parts)
    return size / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer decisions")
    parser.add_argument("--backbone", nargs="+", default=["smollm2-135m"])
    parser.add_argument("--batch", type=int, default=1, help="sessions side by side")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f"{args.batch} session(s), one core, window {WINDOW} steps x 8 tokens")
    print("CPU ms    decision min   p50   p99  library p50  re-encoding p50  reading p50  faster")
    for name, dtype in product(args.backbone, ("bfloat16", "float32")):
        model = build(name, dtype)
        result = measure(model, 10 if args.quick else 60, args.batch)
        rows.append({"backbone": name, "dtype": dtype, "gib": weights_gib(model)} | result)
        ours = result["decision_cpu_ms"]
        others = ("library_decision", "re_encoding", "reading_weights")
        library, encoding, reading = (result[f"{other}_cpu_ms"]["p50"] for other in others)
        print(
            f"{dtype:9} {ours['min']:12.1f} {ours['p50']:5.1f} {ours['p99']:5.1f} {library:12.1f} "
            f"{encoding:16.1f} {reading:12.1f} {result['speedup']:6.1f}x  {name}",
            flush=True,
        )
    if args.json:
        first = {row["dtype"]: row for row in rows if row["backbone"] == args.backbone[0]}
        document = {"machine": machine()} | first | {"rows": rows}
        args.json.write_text(json.dumps(document, indent=2) + "\n")
    print(
        f"one decision: p50 {rows[0]['decision_cpu_ms']['p50']:.1f} ms in bfloat16, "
        f"{rows[0]['speedup']:.1f} times faster than re-encoding the window"
    )


if __name__ == "__main__":
    main()
