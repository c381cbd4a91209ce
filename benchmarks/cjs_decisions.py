"""One scheduling decision of an adapted model at a cluster's real token counts.

    python benchmarks/cjs_decisions.py [--quick] [--backbone NAME] [--json FILE]

An episode of `default` (50 executors, 200 jobs; real profiles with NETLLM_DATA, else generated
ones) is driven by tuned-share. At each decision the model is asked too: observation, graph encoder,
all layers of the backbone through the stream, head. Beside it the library's pass over the whole
window, as without a stream. Warm, on one core, adapter merged, in turn and in CPU time.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import machine
from netllm.cjs import CJS
from netllm.cjs.adapted_scheduler import Scheduler
from netllm.cjs.observation import seen
from netllm_adapt import AdaptedModel, BackboneSpec, Episode, Ragged, add_lora, load_backbone
from netllm_adapt.batches import Segment, collate
from netllm_baselines.cjs import TunedShare
from netllm_sims import cjs

SKIPPED = 300
"""Decisions before the first one that is timed: the cluster fills."""


def build(name: str, dtype: str, setting: cjs.Setting) -> AdaptedModel:
    spec = BackboneSpec(name, dtype=dtype)
    backbone = add_lora(load_backbone(name, dtype=dtype), rank=32)
    backbone.merge_adapter()
    task, recipe = CJS(), CJS().recipe(name)
    width = backbone.config.hidden_size
    parts = {
        "encoder": task.encoder(setting, recipe, width=width),
        "head": task.head(setting, width=width),
    }
    return task.assemble(recipe, backbone=backbone, spec=spec, **parts).eval()


def joined(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """What was seen step by step, as the fields of an episode."""
    fields: dict[str, Any] = {}
    for name, first in steps[0].items():
        values = [step[name] for step in steps]
        if isinstance(first, Ragged):
            ptr = np.cumsum([0, *(len(one.values) for one in values)])
            fields[name] = Ragged(np.concatenate([one.values for one in values]), ptr)
        else:
            fields[name] = np.concatenate(values)
    return fields


def window_episode(steps: list[dict[str, Any]]) -> Episode:
    """The last steps as an episode of their own."""
    count = len(steps)
    return Episode(
        id="window",
        policy="tuned-share",
        seed=0,
        observations=joined(steps),
        actions=np.tile([0, 1], (count, 1)),
        rewards=np.zeros(count, np.float32),
    )


def timed(times: list[float], call: Any) -> Any:
    begun = time.process_time()
    result = call()
    times.append((time.process_time() - begun) * 1e3)
    return result


def measure(model: AdaptedModel, setting: cjs.Setting, decisions: int) -> dict[str, Any]:
    simulator = cjs.Simulator(setting, setting.episodes("valid", seeds=[20])[0])
    driver, scheduler = TunedShare(setting), Scheduler(model, setting)
    scheduler.reset(0)
    scheduler.begin([simulator])
    steps: list[dict[str, Any]] = []
    ours: list[float] = []
    whole: list[float] = []
    for number in range(SKIPPED + decisions):
        observation = simulator.observe()
        steps = [*steps[-model.window + 1 :], seen(observation, np.array([simulator.ask(driver)]))]
        call = lambda observation=observation: scheduler.act(observation)  # noqa: E731
        if number < SKIPPED:
            if number >= SKIPPED - model.window:
                call()
        else:
            timed(ours, call)
            batch = collate([window_episode(steps)], [Segment(0, 0, 0, len(steps))])
            timed(whole, lambda batch=batch: answer(model, batch))
        simulator.step(*simulator.ask(driver))
    tokens = model.sizes(window_episode(steps))
    once, again = (np.percentile(values, (50, 99)) for values in (ours, whole))
    return {
        "decision_cpu_ms": {"min": min(ours), "p50": once[0], "p99": once[1]},
        "re_encoding_cpu_ms": {"min": min(whole), "p50": again[0], "p99": again[1]},
        "speedup": again[0] / once[0],
        "tokens_of_last_steps": tokens.tolist(),
    }


@torch.inference_mode()
def answer(model: AdaptedModel, batch: Any) -> torch.Tensor:
    result: torch.Tensor = model.head.answer(model.hidden(batch), batch.observations)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer decisions")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    setting = cjs.setting("default")
    results: dict[str, Any] = {"synthetic": setting.synthetic}
    print("CPU ms    decision min   p50   p99  re-encoding p50  faster")
    for dtype in ("bfloat16", "float32"):
        model = build(args.backbone, dtype, setting)
        result = results[dtype] = measure(model, setting, 20 if args.quick else 200)
        ours, again = result["decision_cpu_ms"], result["re_encoding_cpu_ms"]
        print(
            f"{dtype:9} {ours['min']:12.1f} {ours['p50']:5.1f} {ours['p99']:5.1f} "
            f"{again['p50']:16.1f} {result['speedup']:6.1f}x",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps({"machine": machine()} | results, indent=2) + "\n")
    bf16 = results["bfloat16"]
    print(
        f"one scheduling decision of {args.backbone}: p50 {bf16['decision_cpu_ms']['p50']:.1f} ms "
        f"in bfloat16, {bf16['speedup']:.1f} times faster than re-encoding the window"
    )


if __name__ == "__main__":
    main()
