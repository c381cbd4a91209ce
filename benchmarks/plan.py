"""What `netllm plan` says that adapting takes, against the peaks of runs of `netllm adapt`.

    python benchmarks/plan.py [--quick] [--layers N] [--json FILE]
    python benchmarks/plan.py --documents FILE

Backbones of two published shapes with random weights, saved as safetensors in bfloat16, loaded as
bfloat16 and as float32; bitrate streaming on generated traces: two steps of 4 rows of 376 tokens, a
validation after each. Each run is a process of its own; its peak is the largest resident size. What
the process holds before it begins (libraries) is known to the plan, so errors are told of the
whole and of what comes on top. `--documents` writes the table of an earlier run's JSON into
docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from _documents import put

GIB = 2**30
NAMES = ("SmolLM2-135M", "SmolLM2-360M")
ROWS, SESSIONS = 4, 2


def save(name: str, layers: int, folder: Path) -> None:
    """Write a network of a known shape, its first blocks alone."""
    import torch
    from sizes import configuration
    from transformers import LlamaModel

    config = configuration(name)
    config.num_hidden_layers = layers
    LlamaModel(config).to(torch.bfloat16).save_pretrained(folder)  # type: ignore[arg-type]


def measure(folder: Path, pool: Path, dtype: str, queue: Any) -> None:
    """The plan of a run and the run, in a fresh process."""
    import dataclasses

    import netllm
    import torch

    torch.set_num_threads(1)
    options: dict[str, Any] = {"pool": pool, "backbone": str(folder), "setting": "synthetic"}
    recipe = dataclasses.replace(
        netllm.task("abr").recipe(str(folder)),
        dtype=dtype,
        steps=2,
        batch=ROWS,
        micro_batch=ROWS,
        validate_every=1,
    )
    given = {**options, "recipe": recipe, "device": "cpu", "validation": SESSIONS}
    netllm.plan("abr", **given)  # loads what planning needs
    start = time.process_time()
    plan = netllm.plan("abr", **given).plan
    seconds = time.process_time() - start
    with tempfile.TemporaryDirectory() as out:
        netllm.adapt("abr", out=Path(out) / "run", target_return=0.0, **given)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    queue.put({"peak": peak, "planned": plan.peak, "before": plan.loading["libraries"]})
    queue.put(dataclasses.asdict(plan) | {"planning_cpu_s": seconds})


def child(work: Any, *arguments: Any) -> None:
    """Do some work in a fresh process, to its end."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} failed with exit code {process.exitcode}")


def row(name: str, dtype: str, folder: Path, pool: Path) -> dict[str, Any]:
    """One run: what was planned and measured, in GiB, and the errors."""
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    child(measure, folder, pool, dtype, queue)
    told, plan = queue.get(), queue.get()
    above = told["peak"] - told["before"]
    return {
        "backbone": name,
        "dtype": dtype,
        "planned_gib": told["planned"] / GIB,
        "measured_gib": told["peak"] / GIB,
        "error": told["planned"] / told["peak"] - 1,
        "libraries_gib": told["before"] / GIB,
        "error_above_libraries": (told["planned"] - told["before"]) / above - 1,
        "plan": plan,
    }


def collect(pool: Path) -> None:
    """A few episodes to learn from."""
    import netllm

    netllm.rl_collect("abr", policy="bba", setting="synthetic", episodes=8, out=pool)


def table(document: dict[str, Any]) -> str:
    """The rows of a run in Markdown."""
    head = [
        f"| shape of, {document['layers']} blocks | type | planned | measured | error | "
        "above the libraries |",
        f"|---|---|{'---:|' * 4}",
    ]
    rows = [
        f"| {one['backbone']} | {one['dtype']} | {one['planned_gib']:.2f} GiB | "
        f"{one['measured_gib']:.2f} GiB | {one['error']:+.1%} | "
        f"{one['error_above_libraries']:+.1%} |"
        for one in document["rows"]
    ]
    return "\n".join([*head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two blocks, bfloat16")
    parser.add_argument("--layers", type=int, default=12, help="blocks of each network")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        put("docs/scale.md", "plan", table(json.loads(args.documents.read_text())))
        print(f"docs/scale.md now holds the table of {args.documents}")
        return
    layers, dtypes = (2, ("bfloat16",)) if args.quick else (args.layers, ("bfloat16", "float32"))
    rows = []
    print("backbone       dtype      planned   measured   error   above the libraries")
    with tempfile.TemporaryDirectory() as work:
        pool = Path(work) / "pool"
        child(collect, pool)
        for name in NAMES:
            folder = Path(work) / name
            child(save, name, layers, folder)
            for dtype in dtypes:
                one = row(name, dtype, folder, pool)
                rows.append(one)
                print(
                    f"{name:14} {dtype:9} {one['planned_gib']:5.2f} GiB {one['measured_gib']:6.2f} "
                    f"GiB {one['error']:+7.1%} {one['error_above_libraries']:+12.1%}",
                    flush=True,
                )
    worst = max(abs(one["error"]) for one in rows)
    seconds = max(one["plan"]["planning_cpu_s"] for one in rows)
    print(f"largest error {worst:.1%}; a plan takes {seconds:.2f} s of CPU")
    if args.json:
        from _machine import machine

        document = {"machine": machine(), "layers": layers, "rows": rows}
        args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
