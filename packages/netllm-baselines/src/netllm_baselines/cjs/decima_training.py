"""Train Decima's extended network on a setting (needs the extra `learned`)."""

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import tqdm
from netllm_sims.cjs import Policy, Setting, rollout
from netllm_sims.cjs import setting as named_setting

from netllm_baselines._recipes_and_best_weights import few_threads, keep_best, override
from netllm_baselines.cjs.decima import Decima
from netllm_baselines.cjs.decima_episodes import demonstrate, training
from netllm_baselines.cjs.decima_learner import Learner
from netllm_baselines.cjs.decima_recipe import DecimaRecipe
from netllm_baselines.cjs.decima_weights import Weights
from netllm_baselines.cjs.tuned_share import TunedShare

_log = logging.getLogger(__name__)


def train_decima(
    setting: Setting | str,
    *,
    out: Path | str,
    steps: int = 700_000,
    seed: int = 0,
    recipe: DecimaRecipe | None = None,
    threads: int = 1,
    command: str = "",
    **overrides: int | float | str,
) -> Path:
    """Write the network with the least validation job completion time to `out`; return that path.

    Random weights first learn a teacher's decisions, if the recipe names one. Then each update
    plays parts of training sequences, several episodes of each under the same luck, and improves
    PPO's clipped objective. Validated and saved is a running average of the weights, on the
    validation sequences, sampled. The test part is never touched.
    A log with one JSON object per update is written beside `out`. Same seed, machine and threads:
    same file.

    Args:
        setting: A setting or its name.
        out: The `.safetensors` to write.
        steps: Decisions to learn from; all schedules stretch over them.
        seed: Of everything random.
        recipe: Other numbers than the default ones.
        threads: torch threads while training.
        command: Remembered in the file's metadata.
        overrides: Single fields of the recipe.

    Raises:
        ValueError: An override is no field of the recipe, or useless.

    Source: Mao et al., SIGCOMM 2019, and the PPO trainer of Gertsman's spark-sched-sim.
        Differences: the network (see `decima_network`); episodes grow and begin anywhere in a
        sequence; a critic that also sees the sequence's other episodes instead of their mean.
    """
    setting = named_setting(setting) if isinstance(setting, str) else setting
    recipe = override(recipe or DecimaRecipe(), overrides)
    meta = {"setting": setting.name, "synthetic": setting.synthetic, "seed": seed}
    meta |= {"steps": steps, "command": command, "recipe": asdict(recipe)}
    with few_threads(threads):
        updates = _train(setting, recipe=recipe, steps=steps, seed=seed, meta=meta)
        return keep_best(updates, out)


def _train(
    setting: Setting, *, recipe: DecimaRecipe, steps: int, seed: int, meta: dict[str, object]
) -> Iterator[tuple[dict[str, float], Weights | None]]:
    """What to log after each update, and the weights if they are the best so far."""
    rng = np.random.default_rng(seed)
    learner = Learner(setting=setting, recipe=recipe, seed=seed)
    valid, best, started = setting.episodes("valid"), np.inf, time.perf_counter()
    done, update = 0.0, 0

    def judge() -> tuple[float, Weights | None]:
        nonlocal best
        candidate = learner.weights(**meta)
        jct_s = float(rollout(Decima(setting, weights=candidate), setting, valid).jct_s.mean())
        if jct_s >= best:
            return jct_s, None
        best = jct_s
        return jct_s, replace(candidate, meta=meta | {"valid_jct_s": jct_s, "update": update})

    if recipe.teacher:
        for line in learner.imitate(demonstrate(_teacher(setting, recipe), setting, recipe, rng)):
            yield line | {"seconds": time.perf_counter() - started}, None
        jct_s, weights = judge()
        yield {"update": 0.0, "valid_jct_s": jct_s}, weights
    with tqdm.tqdm(total=steps, desc="decima", unit="decision", disable=None) as bar:
        while done < steps:
            grown = min(1.0, 2 * done / steps)
            jobs = round(recipe.first_jobs + grown * (recipe.last_jobs - recipe.first_jobs))
            episodes = training(setting, recipe=recipe, jobs=jobs, rng=rng)
            line = {"update": update + 1.0} | learner.update(episodes, left=1 - done / steps)
            update, done = update + 1, done + line["decisions"]
            bar.update(int(line["decisions"]))
            weights = None
            if update % recipe.validate_every == 0 or done >= steps:
                line["valid_jct_s"], weights = judge()
                bar.set_postfix(valid=f"{line['valid_jct_s']:.2f}", best=f"{best:.2f}")
            yield line | {"seconds": time.perf_counter() - started}, weights
    _log.info("least mean job completion time on the validation part: %.2f s", best)


def _teacher(setting: Setting, recipe: DecimaRecipe) -> Policy:
    return Decima(setting) if recipe.teacher == "decima" else TunedShare(setting)
