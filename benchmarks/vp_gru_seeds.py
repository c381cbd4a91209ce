"""The GRU rival of viewport prediction, trained with several seeds: how much its error varies.

    python benchmarks/vp_gru_seeds.py [--quick] [--data DIR] [--seeds 0 1 2 3 4]
                                      [--train FIELD=VALUE ...] [--name NAME] [--json FILE]

Trains as `netllm train-baseline vp gru --seed N --train FIELD=VALUE ...` does and tests the four
published settings. The JSON file holds several recipes by name: a run adds its own to those that
are there, or replaces the one of its name.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from netllm import registry
from netllm.commands.baseline import FIXED
from netllm.commands.options import overrides
from netllm.report.intervals import mean_of
from netllm_baselines.vp import GRU
from netllm_baselines.vp.gru_training import train_gru

SETTINGS = ("default", "unseen-horizon", "unseen-dataset", "unseen-both")


def errors(
    seed: int, settings: tuple[str, ...], recipe: dict[str, Any], args: argparse.Namespace
) -> dict[str, float]:
    """Test error in degrees of one seed's GRU in each setting."""
    task: Any = registry.task("vp")
    with tempfile.TemporaryDirectory() as folder:
        weights = train_gru(
            task.setting("default", data=args.data),
            out=Path(folder) / "gru.npz",
            steps=2_000 if args.quick else None,
            seed=seed,
            **recipe,
        )
        found = {}
        for name in settings:
            place = task.setting(name, data=args.data)
            rows = task.rollout(
                GRU(place, weights=weights), place, place.clips("test"), seed=0
            ).rows
            found[name] = mean_of(rows, "mae_deg", ci=False).mean
    return found


def measured_before(file: Path | None) -> dict[str, Any]:
    """The recipes that the file holds already, by name.

    Raises:
        ValueError: It is no file of this script.
    """
    if file is None or not file.exists():
        return {}
    try:
        recipes = json.loads(file.read_text())["recipes"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} holds no `recipes`, so it is no file of this script. Name another --json."
        ) from error
    return dict(recipes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few windows, `default`")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--train", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--name", default="gru", help="of the recipe in the JSON file")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    try:
        recipe = overrides(args.train, fixed=FIXED, option="--train")
        recipes = measured_before(args.json)
    except ValueError as error:
        parser.error(str(error))
    settings, seeds = (SETTINGS[:1], args.seeds[:1]) if args.quick else (SETTINGS, args.seeds)
    found = {}
    for seed in seeds:
        found[seed] = errors(seed, settings, recipe, args)
        print(f"seed {seed}: " + ", ".join(f"{k} {v:.3f}" for k, v in found[seed].items()))
    means = {name: float(np.mean([one[name] for one in found.values()])) for name in settings}
    if args.json:
        recipes[args.name] = {"recipe": recipe, "mae_deg": found, "mean_mae_deg": means}
        args.json.write_text(json.dumps({"recipes": recipes}, indent=1) + "\n")
    print("mean MAE °: " + ", ".join(f"{name} {value:.3f}" for name, value in means.items()))


if __name__ == "__main__":
    main()
