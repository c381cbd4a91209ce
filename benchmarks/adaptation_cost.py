"""What adapting a backbone costs: full fine-tuning, LoRA, rsLoRA, DoRA, and the head alone.

    python benchmarks/adaptation_cost.py [--quick] [--backbone NAME] [--json FILE]

Optimiser steps of AdamW over two rows of 384 tokens, all layers, bfloat16; each method in a fresh
process. Peak memory is the process's largest resident size, time is CPU time on one core, the
fastest step. The paper's figure 4 has, for LoRA, 0.31 % of the parameters, 58.7 to 60.9 % less
memory and 15.1 % less time than full fine-tuning.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

GIB = 2**30
METHODS: dict[str, dict[str, bool] | None] = {
    "full fine-tuning": None,
    "LoRA": {},
    "rsLoRA": {"rslora": True},
    "DoRA": {"use_dora": True},
    "head alone": None,
}
ROWS, STEPS = 2, 48


def build(backbone: str, method: str) -> Any:
    from netllm_adapt import AdaptedModel, BackboneSpec, add_lora, load_backbone
    from netllm_encoders import Step
    from netllm_heads import Categorical

    model: Any = load_backbone(backbone)
    for name, weight in model.named_parameters():
        # The embedding of words is never read: it is trained by none.
        weight.requires_grad_(method == "full fine-tuning" and "embed_tokens" not in name)
    options = METHODS[method]
    if options is not None:
        model = add_lora(model, rank=32, alpha=64, **options)
    width = model.config.hidden_size
    fields = {f"field_{i}": {"kind": "scalar"} for i in range(6)}
    encoder = Step(width=width, fields=fields, actions=6)
    if method == "head alone":
        encoder.requires_grad_(False)
    return AdaptedModel(
        backbone=model,
        encoder=encoder,
        head=Categorical(width=width, answers=6),
        spec=BackboneSpec(backbone),
        segment=8 * STEPS,
    ).train()


def work(backbone: str, method: str, steps: int, queue: Any) -> None:
    import torch
    from netllm_adapt.segments import Batch

    torch.set_num_threads(1)
    model = build(backbone, method)
    shape = (ROWS, STEPS)
    batch = Batch(
        observations={f"field_{i}": torch.rand(shape) for i in range(6)},
        returns=torch.rand(shape),
        actions=torch.randint(6, shape),
        labels=torch.randint(6, shape),
        learn=torch.ones(shape, dtype=torch.bool),
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    seconds = []
    for _ in range(steps + 1):
        start = time.process_time()
        model(batch).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - start)
    queue.put(
        {
            "trainable": sum(p.numel() for p in trained),
            "parameters": sum(p.numel() for p in model.parameters()),
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB,
            "step_cpu_s": min(seconds[1:]),
        }
    )


def measure(backbone: str, method: str, steps: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(backbone, method, steps, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{method} failed with exit code {process.exitcode}")
    result: dict[str, Any] = queue.get()
    return result | {"share": result["trainable"] / result["parameters"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one step of each")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results: dict[str, Any] = {}
    print(f"{args.backbone}, {ROWS} rows of {8 * STEPS} tokens")
    print(f"{'':18} trainable   share   peak GiB   CPU s per step")
    for method in METHODS:
        row = results[method] = measure(args.backbone, method, 1 if args.quick else 3)
        print(
            f"{method:18} {row['trainable'] / 1e6:7.2f} M {row['share']:7.2%} "
            f"{row['peak_gib']:10.2f} {row['step_cpu_s']:16.2f}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    full, lora = results["full fine-tuning"], results["LoRA"]
    print(
        f"LoRA trains {lora['share']:.2%} of the parameters with "
        f"{lora['peak_gib'] / full['peak_gib'] - 1:+.0%} memory and "
        f"{lora['step_cpu_s'] / full['step_cpu_s'] - 1:+.0%} time of full fine-tuning"
    )


if __name__ == "__main__":
    main()
