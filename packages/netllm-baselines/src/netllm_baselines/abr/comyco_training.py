"""Train Comyco: imitation of an expert that knows the future (needs the extra `learned`)."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tqdm
from jaxtyping import Float
from netllm_sims.abr import Policy, Rollout, Setting, rollout
from netllm_sims.abr import setting as named_setting
from torch import Tensor

from netllm_baselines._recipes_and_best_weights import few_threads, keep_best, override
from netllm_baselines.abr.comyco import Comyco
from netllm_baselines.abr.comyco_recipe import ComycoRecipe
from netllm_baselines.abr.hindsight import Hindsight
from netllm_baselines.abr.pensieve_network import PensieveNetwork, inputs
from netllm_baselines.abr.pensieve_torch import Network
from netllm_baselines.abr.ppo_imitation import learn
from netllm_baselines.abr.training_sessions import training, validation


def train_comyco(
    setting: Setting | str,
    *,
    out: Path | str,
    steps: int = 120_000,
    seed: int = 0,
    recipe: ComycoRecipe | None = None,
    threads: int = 1,
    command: str = "",
    **overrides: int | float | str,
) -> Path:
    """Write the network of the round with the best validation QoE to `out`.

    The expert plans 16 chunks on the true bandwidth, anew at every chunk. It plays the first
    round itself; in the others the network plays as it is by then, and the expert says in every
    state what it would have done. The network learns from all rounds so far, by cross-entropy. The
    test part is never touched. Same seed, machine and threads: same file.

    Args:
        setting: A setting or its name.
        out: The `.npz` to write.
        steps: Decisions of the expert to learn from.
        seed: Of everything random.
        recipe: Other numbers than the default ones.
        threads: Torch threads while training.
        command: Remembered in the file's metadata.
        overrides: Single fields of the recipe.

    Source: Huang et al., MM 2019, sections 3 and 4. Differences: the expert looks 16 chunks ahead
    instead of 8, and keeps the best states of each chunk instead of trying sequences; rounds stand
    in for a replay memory; no bonus for entropy.
    """
    setting = named_setting(setting) if isinstance(setting, str) else setting
    recipe = override(recipe or ComycoRecipe(), overrides)
    meta = {"setting": setting.name, "seed": seed, "steps": steps}
    meta |= {"command": command, "recipe": asdict(recipe)}
    with few_threads(threads):
        return keep_best(_rounds(setting, recipe, steps=steps, seed=seed, meta=meta), out)


def _rounds(
    setting: Setting, recipe: ComycoRecipe, *, steps: int, seed: int, meta: dict[str, object]
) -> Iterator[tuple[dict[str, float], PensieveNetwork | None]]:
    """What to log of each round, and its network if it is the best so far."""
    sessions = max(1, round(steps / recipe.rounds / (setting.video.chunks - 1)))
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    network = Network(setting.video.levels, generator=generator)
    expert = Hindsight(setting, width=recipe.width, horizon=recipe.horizon)
    valid = validation(setting, recipe=recipe)
    player: Policy = expert
    teach = partial(learn, network, passes=recipe.passes, rate=recipe.rate)
    lessons, best = [], -np.inf
    for number in tqdm.trange(1, recipe.rounds + 1, desc="comyco", unit="round", disable=None):
        run = rollout(
            player,
            setting,
            training(setting, sessions, recipe=recipe, rng=rng),
            seed=seed + number,
            record=True,
            label=expert,
            epsilon=recipe.epsilon,
        )
        lessons.append(_lesson(run, setting.video.levels))
        seen, wanted = (torch.cat(column) for column in zip(*lessons, strict=True))
        error = teach(seen, wanted, generator=generator, minibatch=recipe.minibatch)
        player = Comyco(setting, weights=PensieveNetwork.of(network))
        qoe = float(rollout(player, setting, valid).qoe.mean())
        facts = {"round": float(number), "error": error, "valid_qoe": qoe}
        better, best = qoe > best, max(qoe, best)
        yield facts, PensieveNetwork.of(network, **meta, **facts) if better else None


def _lesson(
    run: Rollout, levels: int
) -> tuple[Float[Tensor, "decision feature"], Float[Tensor, "decision level"]]:
    """What the network sees in every state of a rollout, and the expert's level as a one."""
    flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in run.observations.items()}
    assert run.labels is not None
    wanted = np.eye(levels, dtype=np.float32)[run.labels.reshape(-1)]
    return torch.from_numpy(inputs(flat)), torch.from_numpy(wanted)
