"""Training runs of the learned viewport predictors (needs the extra `learned`)."""

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from netllm_sims.vp import Setting

from netllm_baselines._recipes_and_best_weights import few_threads, keep_best
from netllm_baselines.vp._network_training import Learner, Make, validate
from netllm_baselines.vp._training_windows import Windows
from netllm_baselines.vp.saliency import Maps
from netllm_baselines.vp.training_recipe import Recipe
from netllm_baselines.vp.weights_file import Weights

_log = logging.getLogger(__name__)


def train(
    setting: Setting,
    make: Make,
    *,
    out: Path | str,
    recipe: Recipe,
    steps: int | None,
    seed: int,
    threads: int,
    meta: dict[str, Any],
    maps: Maps | None = None,
    side: bool = False,
) -> Path:
    """Write the network of the last epoch, or of the best one, to `out` and return that path.

    Args:
        setting: Its train and valid parts are used, the test part never.
        make: Draws the network.
        out: The `.npz`; a log with one JSON object per epoch is written beside it.
        recipe: The numbers.
        steps: Windows to learn from, in whole passes; None for the recipe's epochs.
        seed: Of everything random.
        threads: Of torch.
        meta: Goes into the file, with what is known here.
        maps: Saliency to learn from as well.
        side: Learn from the setting's memory and crowd as well.
    """
    dense = setting
    if recipe.train_stride not in (0, setting.train_stride):
        dense = replace(setting, train_stride=recipe.train_stride)
    windows = Windows.of(dense, "train", maps=maps, mirror=recipe.mirror, side=side, hide=seed)
    valid = Windows.of(setting, "valid", maps=maps, side=side)
    if steps is not None:
        recipe = replace(recipe, epochs=max(1, round(steps / len(windows))))
    meta = meta | _provenance(setting, recipe=recipe, seed=seed)
    with few_threads(threads):
        learner = Learner(make, windows, recipe=recipe, seed=seed)
        return keep_best(_epochs(learner, valid, recipe=recipe, meta=meta), out)


def _epochs(
    learner: Learner, valid: Windows, *, recipe: Recipe, meta: dict[str, Any]
) -> Iterator[tuple[dict[str, float], Weights | None]]:
    """What to log after each epoch, and the parameters if they are to be kept."""
    best, started = np.inf, time.perf_counter()
    bar = tqdm.tqdm(range(1, recipe.epochs + 1), desc=meta["kind"], unit="epoch", disable=None)
    for epoch in bar:
        line = {"epoch": epoch, "train_mae_deg": learner.epoch()}
        network, halves = learner.halved()
        line["valid_mae_deg"] = mae_deg = validate(network, valid)
        line["seconds"] = time.perf_counter() - started
        bar.set_postfix(train=f"{line['train_mae_deg']:.3f}", valid=f"{mae_deg:.3f}")
        weights = None
        if mae_deg < best if recipe.keep_best else epoch == recipe.epochs:
            best = mae_deg
            found = {"valid_mae_deg": best, "epoch": epoch}
            arrays = {name: value.numpy() for name, value in halves.items()}
            weights = Weights(arrays=arrays, meta=meta | found)
        yield line, weights
    _log.info("error on the validation part: %.4f degrees", best)


def _provenance(setting: Setting, *, recipe: Recipe, seed: int) -> dict[str, Any]:
    names = ("netllm-sims", "netllm-baselines", "torch")
    return {
        "setting": setting.name,
        "synthetic": setting.synthetic,
        "dataset": setting.dataset,
        "history": setting.history,
        "horizon": setting.horizon,
        "rate_hz": setting.rate_hz,
        "hidden": recipe.hidden,
        "seed": seed,
        "recipe": asdict(recipe),
        "versions": {name: version(name) for name in names},
        # what learned from a world and its mirror image has other worlds turned to their front
        **({"front_deg": setting.front_deg} if recipe.mirror else {}),
    }
