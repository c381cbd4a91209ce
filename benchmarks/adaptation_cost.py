"""What adapting a backbone costs and reaches: full fine-tuning, LoRA, rsLoRA, DoRA, head alone.

    python benchmarks/adaptation_cost.py [--quick] [--backbone NAME] [--data DIR]
        [--only METHOD ...] [--steps N] [--layers N] [--seeds N] [--json FILE]

Bitrate streaming, one pool for all, weights in bfloat16, AdamW, steps of four whole episodes
(4 x 384 tokens); each method in fresh processes. Share, memory and time are those of the whole
backbone: peak memory is the process's largest resident size, time is CPU time on one core, the
median of a few steps. Quality is that of the backbone's first blocks, so that it can be learned in
a minute: QoE of greedy roll-outs on sessions of the validation part after `--steps` steps, the mean
of `--seeds`; with one, differences are noise unless they are large. A base in 8 or 4 bits is
measured where bitsandbytes is installed, products in int8 where the processor has fast ones. With
`--only` FILE keeps what it holds of other methods. The paper's figure 4 has, for LoRA, 0.31 % of
the parameters, 58.7 to 60.9 % less memory and 15.1 % less time than full fine-tuning.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import statistics
import tempfile
import time
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

GIB = 2**30
METHODS: dict[str, dict[str, bool] | None] = {
    "full fine-tuning": None,
    "LoRA": {},
    "rsLoRA": {"rslora": True},
    "DoRA": {"use_dora": True},
    "head alone": None,
    "LoRA, 8-bit base": {},
    "LoRA, 4-bit base": {},
    "LoRA, int8 products": {},
}
BITS = {"LoRA, 8-bit base": "int8", "LoRA, 4-bit base": "nf4"}
INT8 = "LoRA, int8 products"
ROWS, RANK = 4, 32
RATES = {"full fine-tuning": 1e-4}
"""Learning rates of the backbone; one for encoder and head, another for low-rank matrices."""


def backbone_of(name: str, method: str, layers: int | None) -> Any:
    from netllm_adapt import add_lora, load_backbone

    model: Any = load_backbone(name, layers=layers, quantise=BITS.get(method))
    for key, weight in model.named_parameters():
        # The embedding of words is never read: it is trained by none.
        weight.requires_grad_(method == "full fine-tuning" and "embed_tokens" not in key)
    options = METHODS[method]
    return model if options is None else add_lora(model, rank=RANK, alpha=2 * RANK, **options)


def build(backbone: str, method: str, layers: int | None, setting: Any, seed: int) -> Any:
    import torch
    from netllm import registry
    from netllm_adapt import BackboneSpec

    task = registry.task("abr")
    model = backbone_of(backbone, method, layers)
    width, recipe = model.config.hidden_size, task.recipe(backbone)
    torch.manual_seed(seed)
    encoder = task.encoder(setting, recipe, width=width)
    if method == "head alone":
        encoder.requires_grad_(False)
    return task.assemble(
        recipe,
        backbone=model,
        spec=BackboneSpec(backbone, layers=layers),
        encoder=encoder,
        head=task.head(setting, width=width),
    ).train()


def learn(model: Any, episodes: Any, method: str, steps: int, seed: int = 0) -> list[float]:
    """CPU seconds of every step."""
    import torch
    from netllm_adapt.lora import int8_products
    from netllm_adapt.training.order import Order
    from netllm_adapt.training.trainable_parameters import trained

    rows = model.rows(episodes)
    order = Order(rows, batch=ROWS, seed=seed)
    parts = trained(model)
    rate = RATES.get(method, 5e-4)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in parts.items() if n.startswith("backbone.")], "lr": rate},
            {"params": [p for n, p in parts.items() if not n.startswith("backbone.")], "lr": 1e-3},
        ],
        weight_decay=0.0,
        fused=True,
    )
    warm = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / (steps - warm + 1))
    )
    seconds = []
    for step in range(steps):
        batch = rows.batch(order.rows(step))
        start = time.process_time()
        with int8_products() if method == INT8 else nullcontext():
            (model(batch).sum() / batch.learn.sum()).backward()
        torch.nn.utils.clip_grad_norm_(parts.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - start)
        schedule.step()
    return seconds


def prepared(
    options: dict[str, Any], method: str, layers: int | None, seed: int = 0
) -> tuple[Any, Any, Any]:
    """The model, the pool and the setting, in a fresh process."""
    import torch
    from netllm import registry
    from netllm_adapt import Pool

    torch.set_num_threads(1)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    setting = registry.task("abr").setting("default", data=options["data"])
    model = build(options["backbone"], method, layers, setting, seed)
    return model, Pool(options["pool"]), setting


def cost(options: dict[str, Any], method: str, queue: Any) -> None:
    from netllm_adapt.training.trainable_parameters import trained

    model, pool, _ = prepared(options, method, None)
    seconds = learn(model, list(pool), method, options["timed"])
    trainable = sum(p.numel() for p in trained(model).values())
    parameters = sum(map(numbers, model.parameters()))
    queue.put(
        {
            "trainable": trainable,
            "parameters": parameters,
            "share": trainable / parameters,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB,
            "step_cpu_s": statistics.median(seconds),
        }
    )


def quality(options: dict[str, Any], method: str, queue: Any) -> None:
    from netllm import registry
    from netllm.verbs.validation import validator

    task: Any = registry.task("abr")
    found = []
    for seed in range(options["seeds"]):
        model, pool, setting = prepared(options, method, options["layers"], seed)
        model.target_return = task.target_returns(pool)[0]
        learn(model, list(pool), method, options["steps"], seed)
        figures = validator(task, setting, options["sessions"])(model.eval())
        found.append(figures["qoe"])
    queue.put({"qoe": statistics.mean(found), "qoe_of_seeds": found})


def numbers(weight: Any) -> int:
    """How many numbers a weight holds, packed or not."""
    state = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else state.shape.numel()


def measure(part: Any, options: dict[str, Any], method: str) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=part, args=(options, method, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{method} failed with exit code {process.exitcode}")
    result: dict[str, Any] = queue.get()
    return result


def collect(episodes: int, data: Path | None, out: Path) -> None:
    from netllm import rl_collect

    rl_collect(
        "abr",
        policy=["ppo", "ppo-sampled"],
        relabel="ppo",
        epsilon=0.08,
        set={"alter": 0.8},
        episodes=episodes,
        data=data,
        out=out,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two steps of each")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--only", nargs="*", choices=list(METHODS))
    parser.add_argument("--steps", type=int, default=100, help="of the quality part")
    parser.add_argument("--layers", type=int, default=6, help="of the quality part")
    parser.add_argument("--seeds", type=int, default=1, help="of the quality part")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    steps, episodes, sessions = (2, 16, 4) if args.quick else (args.steps, 512, 100)
    lacking = {name: reason for name, reason in needs().items() if reason}
    names = args.only or [name for name in METHODS if name not in lacking]
    results = held(args.json) if args.only else {}
    print(
        f"{args.backbone}, {ROWS} episodes a step; QoE: {args.layers} blocks, {steps} steps, "
        f"{sessions} sessions"
    )
    print(f"{'':18} trainable   share   peak GiB   CPU s per step    QoE")
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool"
        collect(episodes, args.data, pool)
        options = {"backbone": args.backbone, "data": args.data, "pool": pool}
        options |= {"steps": steps, "sessions": sessions, "layers": args.layers}
        options |= {"timed": 2 if args.quick else 5, "seeds": args.seeds}
        for method in names:
            row = results[method] = measure(cost, options, method)
            row |= measure(quality, options, method)
            print(
                f"{method:18} {row['trainable'] / 1e6:7.2f} M {row['share']:7.2%} "
                f"{row['peak_gib']:10.2f} {row['step_cpu_s']:16.2f} {row['qoe']:6.3f}"
                + spread(row["qoe_of_seeds"]),
                flush=True,
            )
            if args.json:
                save(args, steps, results)
    for name, reason in lacking.items():
        print(f"{name}: left out: {reason}")
    if {"full fine-tuning", "LoRA"} <= results.keys():
        full, lora = results["full fine-tuning"], results["LoRA"]
        print(
            f"LoRA trains {lora['share']:.2%} of the parameters with "
            f"{lora['peak_gib'] / full['peak_gib'] - 1:+.0%} memory and "
            f"{lora['step_cpu_s'] / full['step_cpu_s'] - 1:+.0%} time of full fine-tuning"
        )
    else:
        least = min(results, key=lambda name: results[name]["peak_gib"])
        print(
            f"of {len(results)} methods {least} takes the least memory, "
            f"{results[least]['peak_gib']:.2f} GiB, at {results[least]['step_cpu_s']:.2f} s a step"
        )


def spread(values: list[float]) -> str:
    """Each of several."""
    return f"  ({', '.join(f'{value:.3f}' for value in values)})" if len(values) > 1 else ""


def needs() -> dict[str, str]:
    """What some methods lack here; empty for what they do not."""
    from netllm_adapt.lora import has_int8

    bits = "" if find_spec("bitsandbytes") else "bitsandbytes is not installed"
    vnni = "" if has_int8() else "the processor has no AVX512-VNNI"
    return dict.fromkeys(BITS, bits) | {INT8: vnni}


def held(file: Path | None) -> dict[str, Any]:
    """What a file holds of an earlier run."""
    if file is None or not file.is_file():
        return {}
    methods: dict[str, Any] = json.loads(file.read_text())["methods"]
    return methods


def save(args: argparse.Namespace, steps: int, results: dict[str, Any]) -> None:
    import torch
    from _machine import machine

    torch.set_num_threads(1)
    document = {
        "machine": machine(),
        "backbone": args.backbone,
        "quality": {"layers": args.layers, "steps": steps, "seeds": args.seeds},
        "methods": results,
    }
    args.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
