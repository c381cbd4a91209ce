"""Train Aurora's actor on a setting (needs the extra `learned`)."""

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import tqdm
from netllm_sims.cc import Setting, rollout
from netllm_sims.cc import setting as named_setting

from netllm_baselines._recipes_and_best_weights import few_threads, keep_best, override
from netllm_baselines.cc.aurora import Aurora
from netllm_baselines.cc.aurora_learner import Learner
from netllm_baselines.cc.aurora_recipe import AuroraRecipe
from netllm_baselines.perceptron import Perceptron

_log = logging.getLogger(__name__)


def train_aurora(
    setting: Setting | str,
    *,
    out: Path | str,
    steps: int = 10_000_000,
    seed: int = 0,
    recipe: AuroraRecipe | None = None,
    threads: int = 1,
    command: str = "",
    **overrides: int | float | str,
) -> Path:
    """Write the actor with the best greedy validation utility to `out` and return that path.

    Each update plays whole episodes on fresh links of the train part. Validated and saved is the
    actor that plays greedily on the validation part; the test part is never touched. A log with one
    JSON object per update is written beside `out`. Same seed, machine and threads: same file.

    Args:
        setting: a setting or its name.
        out: the `.npz` to write.
        steps: decisions to learn from; all schedules stretch over them.
        seed: of everything random.
        recipe: other numbers than the default ones.
        threads: torch threads while training.
        command: remembered in the file's metadata.
        overrides: single fields of the recipe.

    Source: Jay et al., ICML 2019; Schulman et al., "Proximal Policy Optimization Algorithms", 2017.
        Differences: see `Aurora`; losses of one interval cost at most `least_reward`.
    """
    setting = named_setting(setting) if isinstance(setting, str) else setting
    recipe = override(recipe or AuroraRecipe(), overrides)
    updates = max(1, round(steps / (recipe.links * setting.intervals)))
    meta = {"setting": setting.name, "synthetic": setting.synthetic, "seed": seed}
    meta |= {"steps": updates * recipe.links * setting.intervals}
    meta |= {"command": command, "recipe": asdict(recipe)}
    with few_threads(threads):
        lines = _train(setting, recipe=recipe, updates=updates, seed=seed, meta=meta)
        return keep_best(lines, out)


def _train(
    setting: Setting, *, recipe: AuroraRecipe, updates: int, seed: int, meta: dict[str, object]
) -> Iterator[tuple[dict[str, float], Perceptron | None]]:
    """What to log after each update, and the actor if it is the best so far."""
    learner = Learner(intervals=setting.intervals, recipe=recipe, updates=updates, seed=seed)
    valid = setting.links("valid")
    best, started = -np.inf, time.perf_counter()
    bar = tqdm.tqdm(range(1, updates + 1), desc="aurora", unit="update", disable=None)
    for number in bar:
        draw = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        links = setting.links("train", episodes=recipe.links, seed=draw)
        line = {"update": float(number)} | learner.update(links)
        actor = None
        if number % recipe.validate_every == 0 or number == updates:
            candidate = learner.actor()
            policy = Aurora(setting, weights=candidate)
            utility = float(rollout(policy, setting, valid)["utility"].mean())
            line["valid_utility"] = utility
            if utility > best:
                best = utility
                found = meta | {"valid_utility": utility, "update": number}
                actor = replace(candidate, meta=found)
            bar.set_postfix(train=f"{line['train_utility']:.3f}", best=f"{best:.4f}")
        yield line | {"seconds": time.perf_counter() - started}, actor
    _log.info("best greedy utility on the validation part: %.4f", best)
