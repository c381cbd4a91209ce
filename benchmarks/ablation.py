"""What each part of the ABR recipe is worth: short adaptations that differ in one thing.

    python benchmarks/ablation.py [--quick] [--data DIR] [--only NAME ...] [--json FILE]
    python benchmarks/ablation.py --documents FILE

Every variant collects its own pool, trains for the same number of steps and is scored by greedy
roll-outs on the same validation sessions, with the best of the usual target returns. The test part
is never touched. One seed each, so small differences are noise. Variants that FILE already holds
with the same budget are not run again. `--documents` runs nothing: it writes the table of an
earlier run's JSON between its marks in docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from _documents import put
from netllm import registry, rl_collect
from netllm.abr.task import ABR, fields
from netllm.task.build_model import build_model
from netllm.verbs.validation import choose_target, validator
from netllm_adapt import Recipe
from netllm_encoders import Step
from torch import nn

COLLECT: dict[str, Any] = {
    "policy": ["ppo", "ppo-sampled"],
    "relabel": "ppo",
    "epsilon": 0.08,
    "set": {"alter": 0.8},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "labels: PPO's answer only": {"collect": {"soft": False}},
    "labels: actions taken": {"collect": {"relabel": None}},
    "pool: traces as they are": {"collect": {"set": {}}},
    "pool: no random actions": {"collect": {"epsilon": 0.0}},
    "pool: PPO, MPC and BBA drive": {"collect": {"policy": ["ppo", "mpc", "bba"]}},
    "no return-to-go": {"blind": True},
    "PPO, MPC and BBA drive, no return-to-go": {
        "blind": True,
        "collect": {"policy": ["ppo", "mpc", "bba"]},
    },
    "no low-rank matrices": {"recipe": {"lora_learning_rate": 0.0}},
    "window of 1 step": {"recipe": {"window": 1}},
    "window of 5 steps": {"recipe": {"window": 5}},
    "rank 4": {"recipe": {"rank": 4, "alpha": 8.0}},
    "rank 128": {"recipe": {"rank": 128, "alpha": 256.0}},
    "layers 12": {"recipe": {"layers": 12}},
    "layers 2": {"recipe": {"layers": 2}},
    "random weights": {"backbone": "random-smollm2-135m"},
}


class Blind(ABR):
    """The task with a return-to-go that says nothing."""

    def encoder(self, setting: Any, recipe: Recipe, *, width: int) -> nn.Module:
        """The usual encoder; its returns are scaled to nothing."""
        levels = len(setting.rates_kbps)
        return Step(width=width, fields=fields(levels), actions=levels, return_scale=1e12)


def run(variant: Mapping[str, Any], args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Collect, adapt and validate one variant."""
    task: Any = Blind() if variant.get("blind") else registry.task("abr")
    collect = COLLECT | variant.get("collect", {})
    out = folder / "pool"
    pool = rl_collect(
        "abr", out=out, episodes=args.episodes, setting=args.setting, data=args.data, **collect
    )
    setting = task.setting(args.setting, data=args.data)
    backbone = variant.get("backbone", "smollm2-135m")
    changes = {"layers": 6, "steps": args.steps, "validate_every": args.steps}
    recipe = replace(task.recipe(backbone), **(changes | variant.get("recipe", {})))
    model = build_model(task, setting, backbone, recipe)
    targets = task.target_returns(pool)
    model.target_return = targets[0]
    begun = time.process_time()
    best = task.fit(
        model,
        pool,
        recipe=recipe,
        out=folder / "run",
        validate=lambda _: {},
        metric="",
        maximise=True,
        finish=None,
        resume=False,
    )
    seconds = time.process_time() - begun
    choose_target(best, targets, validator(task, setting, args.sessions), task.metrics[0])
    return {"qoe": best.about["validation qoe"], "train_cpu_s": seconds}


def _kept(file: Path | None, budget: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """What a file holds of an earlier run with the same budget."""
    if file is None or not file.is_file():
        return {}
    held = json.loads(file.read_text())
    if {key: held.get(key) for key in budget} != dict(budget):
        return {}
    results: dict[str, dict[str, float]] = held["results"]
    for name, result in results.items():
        _print(name, result)
    return results


def _print(name: str, result: Mapping[str, float]) -> None:
    print(f"{name:40} QoE {result['qoe']:.4f}  {result['train_cpu_s']:6.0f} s CPU", flush=True)


def table(document: dict[str, Any]) -> str:
    """The variants on validation, best first, and what each gains on the recipe that it varies."""
    ranked = sorted(document["results"].items(), key=lambda pair: -pair[1]["qoe"])
    base = document["results"]["base"]["qoe"]
    return "\n".join(
        [
            f"| {document['steps']} steps, {document['episodes']} episodes | QoE | minus base |",
            "|---|---:|---:|",
            *(f"| {name} | {one['qoe']:.3f} | {one['qoe'] - base:+.3f} |" for name, one in ranked),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two variants, few steps")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--setting", default="default")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--episodes", type=int, default=2048)
    parser.add_argument("--sessions", type=int, default=400)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        put("docs/results.md", "ablation", table(json.loads(args.documents.read_text())))
        print(f"docs/results.md now holds the table of {args.documents}")
        return
    names = args.only or list(VARIANTS)
    if args.quick:
        names, args.steps, args.episodes, args.sessions = names[:2], 4, 32, 8
    budget = {key: getattr(args, key) for key in ("steps", "episodes", "sessions")}
    results = _kept(args.json, budget)
    for name in names:
        if name in results:
            continue
        with tempfile.TemporaryDirectory() as folder:
            results[name] = run(VARIANTS[name], args, Path(folder))
        _print(name, results[name])
        if args.json:
            args.json.write_text(json.dumps(budget | {"results": results}, indent=1) + "\n")
    best = max(results, key=lambda name: results[name]["qoe"])
    print(f"best on validation after {args.steps} steps: {best}")


if __name__ == "__main__":
    main()
