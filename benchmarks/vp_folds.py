"""Recipes of viewport prediction compared on folds of the training part, videos and users apart.

    python benchmarks/vp_folds.py [--quick] [--data DIR] [--folds 0 1 2] [--set FIELD=VALUE ...]
                                  [--json FILE]

Each fold trains the GRU and the adapted model on two thirds of the training videos and users, and
tests them on the other third of both, as the test part does with users and videos that training
never saw. The validation part has six videos whose viewers move little, so that it says less. The
test part is never touched. `--set` changes the adapted model's recipe.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from netllm import registry
from netllm.adapting import build_model
from netllm.commands.options import overrides
from netllm.intervals import mean_of
from netllm_baselines.vp import GRU, HoldLast
from netllm_baselines.vp.gru_training import train_gru

FOLDS = 3


def places(fold: int, data: Path | None) -> tuple[Any, Any]:
    """The setting to train in, and the one to test in, of a fold."""
    from netllm_sims.vp.splits import PUBLISHED

    train, valid = PUBLISHED["Jin2022"]["train"], PUBLISHED["Jin2022"]["valid"]
    parts = []
    for held in (False, True):
        chosen = {
            f"{kind}s": [f"{kind}{x}" for i, x in enumerate(some) if (i % FOLDS == fold) == held]
            + [f"{kind}{x}" for x in others]  # the GRU logs its error on the validation part
            for kind, some, others in (
                ("video", train.videos, valid.videos),
                ("user", train.users, valid.users),
            )
        }
        stride = {"train_stride": 15} if held else {}
        parts.append(registry.task("vp").setting("default", data=data, **stride, **chosen))
    return parts[0], parts[1]


def fold_errors(fold: int, changes: dict[str, Any], args: argparse.Namespace) -> dict[str, float]:
    """Mean error in degrees of hold-last, GRU and adapted model on the held third of a fold."""
    task: Any = registry.task("vp")
    place, held = places(fold, args.data)
    clips = held.clips("train")

    def error(policy: Any) -> float:
        rows = task.rollout(policy, held, clips, seed=0).rows
        return mean_of(rows, "mae_deg", ci=False).mean

    recipe = replace(task.recipe("smollm2-135m"), **changes)
    with tempfile.TemporaryDirectory() as folder:
        weights = train_gru(
            place, out=Path(folder) / "gru.npz", steps=2_000 if args.quick else None
        )
        gru = error(GRU(held, weights=weights))
        model = task.fit(
            build_model(task, place, "smollm2-135m", recipe),
            task.experience(None, place, recipe),
            recipe=replace(recipe, validate_every=recipe.steps),
            out=Path(folder) / "run",
            validate=lambda _: {},
            metric="",
            maximise=False,
            finish=None,
            resume=False,
        )
        ours = error(task.policy(model, held))
    return {"hold-last": error(HoldLast(held)), "gru": gru, "adapted": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one fold, few steps")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folds", nargs="*", type=int, default=list(range(FOLDS)))
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    changes = overrides(args.set)
    if args.quick:
        args.folds, changes = args.folds[:1], {"steps": 3, "batch": 16, "layers": 1} | changes
    results = {}
    for fold in args.folds:
        results[fold] = fold_errors(fold, changes, args)
        print(
            f"fold {fold}: " + ", ".join(f"{k} {v:.3f}" for k, v in results[fold].items()),
            flush=True,
        )
        if args.json:
            args.json.write_text(
                json.dumps({"changes": changes, "mae_deg": results}, indent=1) + "\n"
            )
    means = {
        name: float(np.mean([one[name] for one in results.values()]))
        for name in results[args.folds[0]]
    }
    print("mean MAE °: " + ", ".join(f"{name} {value:.3f}" for name, value in means.items()))


if __name__ == "__main__":
    main()
