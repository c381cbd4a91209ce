"""One decision of an adapted model: the stream of decisions against re-encoding its window.

    python benchmarks/decision_latency.py [--quick] [--backbone smollm2-135m] [--json FILE]

One session, window 20 steps x 8 tokens, warm, on one core; the two are measured in turn and in CPU
time, since other work may share the machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from netllm_adapt import AdaptedModel, BackboneSpec, DecisionStream, add_lora, load_backbone
from netllm_adapt.segments import Batch
from netllm_encoders import Step
from netllm_heads import Categorical

WINDOW = 20
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
        segment=10_000 if name.startswith("tiny") else 4096,
    ).eval()


def window_batch() -> Batch:
    shape = (1, WINDOW)
    return Batch(
        observations={name: torch.rand(shape) for name in FIELDS},
        returns=torch.rand(shape),
        actions=torch.zeros(shape, dtype=torch.long),
        labels=torch.zeros(shape, dtype=torch.long),
        learn=torch.ones(shape, dtype=torch.bool),
    )


def cpu_ms(call: Callable[[], Any]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3


def measure(model: AdaptedModel, decisions: int) -> dict[str, Any]:
    stream = DecisionStream(model, batch=1)
    batch = window_batch()
    observation = {name: torch.rand(1) for name in FIELDS}
    action = None

    def decide() -> None:
        nonlocal action
        action = stream.decide(observation, torch.rand(1), action)

    @torch.inference_mode()
    def encode() -> None:
        model.head.answer(model.hidden(batch), batch.observations)

    for _ in range(WINDOW + 5):
        decide()
    encode()
    times = [(cpu_ms(decide), cpu_ms(encode)) for _ in range(decisions)]
    ours, other = np.array(times).transpose(1, 0, 2)  # (decision, cpu or wall)
    return {
        "decision_ms": {f"p{q}": float(np.percentile(ours[:, 0], q)) for q in (50, 99)},
        "decision_wall_ms": {f"p{q}": float(np.percentile(ours[:, 1], q)) for q in (50, 99)},
        "re_encoding_ms": {f"p{q}": float(np.percentile(other[:, 0], q)) for q in (50, 99)},
        "speedup": float(np.percentile(other[:, 0], 50) / np.percentile(ours[:, 0], 50)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer decisions")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    print(f"{args.backbone}, one core, window {WINDOW} steps x 8 tokens, CPU ms")
    print("dtype     decision p50   p99   re-encoding p50   times faster")
    for dtype in ("bfloat16", "float32"):
        result = measure(build(args.backbone, dtype), 10 if args.quick else 60)
        results[dtype] = result
        ours = result["decision_ms"]
        print(
            f"{dtype:9} {ours['p50']:12.1f} {ours['p99']:5.1f} "
            f"{result['re_encoding_ms']['p50']:17.1f} {result['speedup']:14.2f}"
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    bf16 = results["bfloat16"]
    print(
        f"one decision: p50 {bf16['decision_ms']['p50']:.1f} ms in bfloat16, "
        f"{bf16['speedup']:.1f} times faster than re-encoding the window"
    )


if __name__ == "__main__":
    main()
