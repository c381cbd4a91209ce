"""What adapting backbones of 7 B parameters takes: memory on GPUs of 24 and 80 GB, time of a step.

    python benchmarks/large_backbones.py [--quick] [--json FILE]
    python benchmarks/large_backbones.py --documents FILE

Bitrate streaming by its usual recipe, all blocks; no weights are needed. Memory and operations are
those of `netllm plan` for a GPU, whose plans were not compared with one. GB are 10^9 bytes: 24 GB
are what `--gpus 1x22.35` names. Full fine-tuning, which `netllm adapt` does not offer, is planned
by the same recipe: backbone, gradients and moments in bfloat16, all but the embedding of words
trained.

Time is measured: CPU seconds on one core of a step of 4 rows of 376 tokens, the first blocks of
each shape with random weights in bfloat16. The operations of such a step by its seconds are a rate.
By the rate of the shape before it each one is foretold and then measured; by the last one, whole
backbones are. Rates depend on what else the machine does, those of the smallest shape most.
`--documents` writes the tables of an earlier run's JSON into docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from _documents import put
from plan import GIB, ROWS, child, collect, save
from sizes import configuration

SETTING = "synthetic"
LARGE = ("Llama-2-7B", "Mistral-7B")
TIMED = {"SmolLM2-135M": 6, "SmolLM2-360M": 6, "Llama-2-7B": 2, "Mistral-7B": 3}
"""Blocks by shape; the last two are those of LARGE."""
WEIGHTS = {"bf16": None, "int8": "int8", "nf4": "nf4"}
FULL = "bf16, all trained"
USUAL = {"weights": "bf16", "activations": "kept"}
"""What `netllm adapt` does unless told otherwise."""
GB = 10**9
CARDS_GB = (24, 80)


def fine_tuning(folder: Path, recipe: Any, libraries: int) -> Any:
    """The plan of training all that is read of a backbone."""
    import torch
    from netllm import registry
    from netllm_adapt import BackboneSpec
    from netllm_adapt.backbone import embedding_width
    from netllm_adapt.planning.memory import Place, make_plan

    task: Any = registry.task("abr")
    setting = task.setting(SETTING)

    def build(recipe: Any) -> Any:
        spec = BackboneSpec(str(folder), dtype=recipe.dtype)
        backbone = spec.empty()
        for name, weight in backbone.named_parameters():
            weight.requires_grad_("embed_tokens" not in name)
        width = embedding_width(backbone)
        with torch.device("meta"):
            return task.assemble(
                recipe,
                backbone=backbone,
                spec=spec,
                encoder=task.encoder(setting, recipe, width=width),
                head=task.head(setting, width=width),
            )

    place = Place("cuda", CARDS_GB[-1] * GB, libraries)
    return make_plan(build, recipe, place, sessions=task.validation)


def plans(name: str, folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    """What each way of adapting takes, and by options the GiB with which it fits the least card."""
    import netllm
    from netllm.verbs.plan import flags

    configuration(name).save_pretrained(folder)
    usual = netllm.task("abr").recipe(str(folder))
    gpus = f"1x{CARDS_GB[0] * GB / GIB}"
    for again in (False, True):
        recipe = replace(usual, gradient_checkpointing=again)
        for weights, kind in WEIGHTS.items():
            planned = netllm.plan(
                "abr",
                backbone=str(folder),
                setting=SETTING,
                recipe=replace(recipe, quantise=kind),
                gpus=gpus,
            )
            remedies = {flags(change): one.peak / GIB for change, one in planned.remedies}
            yield row(name, weights, again, planned.plan), remedies
        libraries = planned.plan.loading["libraries"]
        yield row(name, FULL, again, fine_tuning(folder, recipe, libraries)), {}


def row(name: str, weights: str, again: bool, plan: Any) -> dict[str, Any]:
    """A plan in flat figures."""
    return {
        "backbone": name,
        "weights": weights,
        "activations": "recomputed" if again else "kept",
        "peak_gib": plan.peak / GIB,
        "peak_gb": plan.peak / GB,
        **{f"fits_{size}_gb": plan.peak <= size * GB for size in CARDS_GB},
        "rows": plan.rows,
        "tokens": plan.tokens,
        "blocks": plan.blocks,
        "tera_operations": plan.flops_per_step / 1e12,
    }


def measure(folder: Path, pool: Path, steps: int, queue: Any) -> None:
    """Operations of a step and its CPU seconds, in a fresh process."""
    import netllm
    import torch
    from adaptation_cost import learn
    from netllm import registry
    from netllm.task.build_model import build_model
    from netllm_adapt import Pool

    torch.set_num_threads(1)
    task, backbone = registry.task("abr"), str(folder)
    recipe = replace(task.recipe(backbone), batch=ROWS, micro_batch=ROWS)
    options: dict[str, Any] = {"backbone": backbone, "setting": SETTING, "recipe": recipe}
    plan = netllm.plan("abr", **options, pool=pool, device="cpu").plan
    model: Any = build_model(task, task.setting(SETTING), backbone, recipe)
    _, *later = learn(model.train(), [*Pool(pool)], "LoRA", steps)  # the first one lays out weights
    queue.put((plan.flops_per_step / 1e12, min(later)))


def times(blocks: dict[str, int], steps: int) -> Iterator[dict[str, Any]]:
    """Shape after shape, what was foretold by the rate of the one before, and measured."""
    rate = None
    with tempfile.TemporaryDirectory() as work:
        pool, folder = Path(work) / "pool", Path(work) / "backbone"
        child(collect, pool)
        for name, count in blocks.items():
            queue = multiprocessing.get_context("spawn").SimpleQueue()
            child(save, name, count, folder)
            child(measure, folder, pool, steps, queue)
            operations, seconds = queue.get()
            foretold = None if rate is None else operations / rate
            rate = operations / seconds
            yield {
                "backbone": name,
                "blocks": count,
                "tera_operations": operations,
                "foretold_cpu_s": foretold,
                "measured_cpu_s": seconds,
                "error": None if foretold is None else foretold / seconds - 1,
                "giga_operations_per_s": rate * 1e3,
            }


def whole(one: dict[str, Any], giga_per_s: float) -> dict[str, Any]:
    """The time of a step of a planned way, foretold by a rate."""
    named = {name: one[name] for name in ("backbone", "blocks", "tera_operations")}
    return named | {"foretold_cpu_s": one["tera_operations"] * 1e3 / giga_per_s}


def memory_table(document: dict[str, Any]) -> str:
    cards = " | ".join(f"in {size} GB" for size in CARDS_GB)
    head = [
        f"| shape of | weights | activations | peak, GiB | GB | {cards} | 10¹² operations a step |",
        f"|---|---|---|---:|---:|{'---|' * len(CARDS_GB)}---:|",
    ]
    rows = [
        f"| {one['backbone']} | {one['weights']} | {one['activations']} | {one['peak_gib']:.2f} | "
        f"{one['peak_gb']:.2f} | "
        + "".join(f"{'yes' if one[f'fits_{size}_gb'] else 'no'} | " for size in CARDS_GB)
        + f"{one['tera_operations']:.0f} |"
        for one in document["planned"]
    ]
    advice = [
        f"- {name}, bf16, fits {CARDS_GB[0]} GB with "
        + "; or ".join(f"`{change}` ({peak:.2f} GiB)" for change, peak in changes.items())
        for name, changes in document["remedies"].items()
    ]
    return "\n".join([*head, *rows, "", *advice])


def time_table(document: dict[str, Any]) -> str:
    head = [
        "| shape of | blocks | 10¹² operations | foretold CPU s | measured | error | 10⁹ a s |",
        f"|---|{'---:|' * 6}",
    ]

    def told(one: dict[str, Any], name: str, digits: str) -> str:
        return "–" if one.get(name) is None else f"{one[name]:{digits}}"

    rows = [
        f"| {one['backbone']} | {one['blocks']} | {one['tera_operations']:.2f} | "
        f"{told(one, 'foretold_cpu_s', '.1f')} | {told(one, 'measured_cpu_s', '.1f')} | "
        f"{told(one, 'error', '+.0%')} | {told(one, 'giga_operations_per_s', '.0f')} |"
        for one in document["timed"]
    ]
    return "\n".join([*head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one block of the small, two steps")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        document = json.loads(args.documents.read_text())
        put("docs/scale.md", "large-memory", memory_table(document))
        put("docs/scale.md", "large-time", time_table(document))
        print(f"docs/scale.md now holds the tables of {args.documents}")
        return
    document = {"planned": [], "remedies": {}, "timed": []}
    with tempfile.TemporaryDirectory() as work:
        for name in LARGE:
            for one, remedies in plans(name, Path(work) / name):
                document["planned"].append(one)
                if remedies:
                    document["remedies"][name] = remedies
    print(memory_table(document), flush=True)
    blocks = dict.fromkeys([*TIMED][:2], 1) if args.quick else TIMED
    document["timed"] += times(blocks, 2 if args.quick else 4)
    rate = document["timed"][-1]["giga_operations_per_s"]
    usual = [one for one in document["planned"] if USUAL.items() <= one.items()]
    document["timed"] += [whole(one, rate) for one in usual]
    print(time_table(document))
    if args.json:
        import torch
        from _machine import machine

        torch.set_num_threads(1)
        written = {"machine": machine(), **document}
        args.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
