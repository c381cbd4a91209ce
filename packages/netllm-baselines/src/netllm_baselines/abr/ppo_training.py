"""Train the PPO actor on a setting (needs the extra `learned`)."""

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import tqdm
from netllm_sims.abr import Setting, rollout
from netllm_sims.abr import setting as named_setting

from netllm_baselines._recipes_and_best_weights import few_threads, keep_best, override
from netllm_baselines.abr.ppo import PPO
from netllm_baselines.abr.ppo_learner import Learner
from netllm_baselines.abr.ppo_recipe import PPORecipe
from netllm_baselines.abr.training_sessions import training, validation
from netllm_baselines.perceptron import Perceptron

_log = logging.getLogger(__name__)


def train_ppo(
    setting: Setting | str,
    *,
    out: Path | str,
    steps: int = 12_000_000,
    seed: int = 0,
    recipe: PPORecipe | None = None,
    threads: int = 1,
    command: str = "",
    **overrides: int | float | str,
) -> Path:
    """Write the actor with the best greedy validation QoE to `out` and return that path.

    Each update plays whole sessions of the train part (altered, see `training_sessions`), estimates
    advantages with a critic that also sees the coming bandwidth (see `Future`), and improves the
    clipped objective. Validated and saved is a running average of the actor's weights, played
    greedily on fixed sessions of the validation part. The test part is never touched. A log with
    one JSON object per update is written beside `out`. Same seed, machine and threads: same file.

    Args:
        setting: a setting or its name.
        out: the `.npz` to write.
        steps: decisions to learn from; all schedules stretch over them.
        seed: of everything random.
        recipe: other numbers than the default ones.
        threads: torch threads while training.
        command: remembered in the file's metadata.
        overrides: single fields of the recipe.

    Source: Schulman et al., "Proximal Policy Optimization Algorithms", 2017. Differences: whole
        sessions, so no bootstrapping; Huber loss; input-driven critic; averaged weights.
    """
    setting = named_setting(setting) if isinstance(setting, str) else setting
    recipe = override(recipe or PPORecipe(), overrides)
    decisions = recipe.sessions * (setting.video.chunks - 1)
    updates = max(1, round(steps / decisions))
    meta = {"setting": setting.name, "synthetic": setting.synthetic, "seed": seed}
    meta |= {"steps": updates * decisions, "command": command, "recipe": asdict(recipe)}
    with few_threads(threads):
        lines = _train(setting, recipe=recipe, updates=updates, seed=seed, meta=meta)
        return keep_best(lines, out)


def _train(
    setting: Setting, *, recipe: PPORecipe, updates: int, seed: int, meta: dict[str, object]
) -> Iterator[tuple[dict[str, float], Perceptron | None]]:
    """What to log after each update, and the actor if it is the best so far."""
    rng = np.random.default_rng(seed)
    learner = Learner(setting=setting, recipe=recipe, updates=updates, seed=seed)
    draw = partial(training, setting, recipe.sessions, recipe=recipe, rng=rng)
    learner.standardise_from(draw())
    valid = validation(setting, recipe=recipe)
    best, started = -np.inf, time.perf_counter()
    bar = tqdm.tqdm(range(1, updates + 1), desc="ppo", unit="update", disable=None)
    for update in bar:
        line = {"update": float(update)} | learner.update(draw())
        actor = None
        if update % recipe.validate_every == 0 or update == updates:
            candidate = learner.actor(**meta)
            qoe = float(rollout(PPO(setting, weights=candidate), setting, valid).qoe.mean())
            line["valid_qoe"] = qoe
            if qoe > best:
                best = qoe
                actor = replace(candidate, meta=meta | {"valid_qoe": qoe, "update": update})
            bar.set_postfix(
                train=f"{line['train_qoe']:.3f}", valid=f"{qoe:.4f}", best=f"{best:.4f}"
            )
        yield line | {"seconds": time.perf_counter() - started}, actor
    _log.info("best greedy QoE on the validation part: %.4f", best)
