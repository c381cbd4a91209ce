"""Recipes of viewport prediction compared on folds of the training part, videos and users apart.

    python benchmarks/vp_folds.py [--quick] [--data DIR] [--folds 0 1 2] [--set FIELD=VALUE ...]
                                  [--gru FIELD=VALUE ...] [--vpt360 FIELD=VALUE ...]
                                  [--only NAME ...] [--json FILE]

Each fold trains the GRU, VPT360 and the adapted model on two thirds of the training videos and
users, and tests them on the other third of both, as the test part does with users and videos that
training never saw. The validation part has six videos whose viewers move little, so that it says
less. The test part is never touched. `--set` changes the adapted model's recipe, `--gru` and
`--vpt360` theirs.
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
from netllm.commands.options import overrides
from netllm.report.intervals import mean_of
from netllm.task.build_model import build_model
from netllm_baselines.vp import GRU, VPT360, HoldLast
from netllm_baselines.vp.gru_training import train_gru
from netllm_baselines.vp.vpt360_training import train_vpt360

FOLDS = 3


def places(fold: int, data: Path | None) -> tuple[Any, Any]:
    """The setting to train in, and the one to test in, of a fold."""
    from netllm_sims.vp.user_video_splits import PUBLISHED

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


def hold_last(place: Any, held: Any, args: argparse.Namespace, folder: Path) -> Any:
    """Learns nothing."""
    return HoldLast(held)


def gru(place: Any, held: Any, args: argparse.Namespace, folder: Path) -> Any:
    """The GRU, trained in a fold."""
    steps = 2_000 if args.quick else None
    changes = overrides(args.gru, option="--gru")
    return GRU(held, weights=train_gru(place, out=folder / "gru.npz", steps=steps, **changes))


def vpt360(place: Any, held: Any, args: argparse.Namespace, folder: Path) -> Any:
    """VPT360, trained in a fold."""
    steps = 2_000 if args.quick else None
    changes = overrides(args.vpt360, option="--vpt360")
    weights = train_vpt360(place, out=folder / "vpt360.npz", steps=steps, **changes)
    return VPT360(held, weights=weights)


def adapted(place: Any, held: Any, args: argparse.Namespace, folder: Path) -> Any:
    """The adapted model, trained in a fold."""
    task: Any = registry.task("vp")
    short = {"steps": 3, "batch": 16, "layers": 1} if args.quick else {}
    recipe = replace(task.recipe("smollm2-135m"), **(short | overrides(args.set)))
    model = task.fit(
        build_model(task, place, "smollm2-135m", recipe),
        task.experience(None, place, recipe),
        recipe=replace(recipe, validate_every=recipe.steps),
        out=folder / "run",
        validate=lambda _: {},
        metric="",
        maximise=False,
        finish=None,
        resume=False,
    )
    return task.policy(model, held)


TRAINED = {"hold-last": hold_last, "gru": gru, "vpt360": vpt360, "adapted": adapted}


def fold_errors(fold: int, args: argparse.Namespace) -> dict[str, float]:
    """Mean error in degrees on the held third of a fold."""
    place, held = places(fold, args.data)
    clips = held.clips("train")
    errors = {}
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            policy = TRAINED[name](place, held, args, Path(folder))
            rows = registry.task("vp").rollout(policy, held, clips, seed=0).rows
        errors[name] = mean_of(rows, "mae_deg", ci=False).mean
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one fold, few steps")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folds", nargs="*", type=int, default=list(range(FOLDS)))
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--gru", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--vpt360", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--only", nargs="*", choices=list(TRAINED), default=list(TRAINED))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.folds = args.folds[:1]
    results = {}
    for fold in args.folds:
        results[fold] = fold_errors(fold, args)
        print(
            f"fold {fold}: " + ", ".join(f"{k} {v:.3f}" for k, v in results[fold].items()),
            flush=True,
        )
        if args.json:
            changes = {"adapted": overrides(args.set), "gru": overrides(args.gru, option="--gru")}
            changes["vpt360"] = overrides(args.vpt360, option="--vpt360")
            document = {"changes": changes, "mae_deg": results}
            args.json.write_text(json.dumps(document, indent=1) + "\n")
    means = {
        name: float(np.mean([one[name] for one in results.values()]))
        for name in results[args.folds[0]]
    }
    print("mean MAE °: " + ", ".join(f"{name} {value:.3f}" for name, value in means.items()))


if __name__ == "__main__":
    main()
