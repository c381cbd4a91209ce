"""Train Fugu's predictor of download times in the simulator (needs the extra `learned`)."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from netllm_sims.abr import Policy, Session, Setting, rollout
from netllm_sims.abr import setting as named_setting
from numpy import ndarray

from netllm_baselines._recipes_and_best_weights import few_threads, keep_best, override
from netllm_baselines.abr.bba import BBA
from netllm_baselines.abr.fugu import Fugu
from netllm_baselines.abr.fugu_predictor import AHEAD, BINS, bin_of, inputs
from netllm_baselines.abr.fugu_recipe import FuguRecipe
from netllm_baselines.abr.mpc import MPC
from netllm_baselines.abr.ppo_imitation import Imitator
from netllm_baselines.abr.random import Random
from netllm_baselines.abr.training_sessions import training, validation
from netllm_baselines.perceptron import Perceptron


def train_fugu(
    setting: Setting | str,
    *,
    out: Path | str,
    steps: int = 141_000,
    seed: int = 0,
    recipe: FuguRecipe | None = None,
    threads: int = 1,
    command: str = "",
    **overrides: int | float | str,
) -> Path:
    """Write a predictor of download times, and its QoE on the validation part, to `out`.

    `MPC`, `BBA` and `Random` play sessions of the train part, with a share of random levels, and
    the network learns how long the next five downloads took, by cross-entropy. The test part is
    never touched. Same seed, machine and threads: same file.

    Args:
        setting: A setting or its name.
        out: The `.npz` to write.
        steps: Decisions of whose downloads it learns.
        seed: Of everything random.
        recipe: Other numbers than the default ones.
        threads: Torch threads while training.
        command: Remembered in the file's metadata.
        overrides: Single fields of the recipe.
    """
    setting = named_setting(setting) if isinstance(setting, str) else setting
    recipe = override(recipe or FuguRecipe(), overrides)
    count = max(3, round(steps / (setting.video.chunks - 1)))
    rng = np.random.default_rng(seed)
    learned_from = training(setting, count, recipe=recipe, rng=rng)
    rng.shuffle(learned_from)  # type: ignore[arg-type]
    meta = {"setting": setting.name, "seed": seed, "steps": count * (setting.video.chunks - 1)}
    meta |= {"command": command, "recipe": asdict(recipe)}
    with few_threads(threads):
        error, actor = _learned(setting, learned_from, recipe, seed=seed)
        valid = validation(setting, recipe=recipe)
        seen, taken = _downloads(setting, valid, seed=seed, epsilon=recipe.epsilon)
        line = {
            "train_error": error,
            "valid_error": surprise(actor, seen, taken),
            "valid_qoe": float(rollout(Fugu(setting, weights=actor), setting, valid).qoe.mean()),
        }
    return keep_best([(line, replace(actor, meta=meta | line))], out)


def _learned(
    setting: Setting, sessions: Sequence[Session], recipe: FuguRecipe, *, seed: int
) -> tuple[float, Perceptron]:
    """The predictor that learned from the downloads of sessions, and its last cross-entropy."""
    seen, taken = _downloads(setting, sessions, seed=seed, epsilon=recipe.epsilon)
    generator = torch.Generator().manual_seed(seed)
    hidden = [recipe.hidden] * recipe.layers
    network = Imitator(seen, BINS, hidden=hidden, generator=generator)
    wanted = np.eye(BINS, dtype=np.float32)[taken]
    return network.learn(seen, wanted, passes=recipe.passes, rate=recipe.rate), network.actor()


def surprise(
    actor: Perceptron, seen: Float[ndarray, "download feature"], taken: Int[ndarray, "download"]
) -> float:
    """Mean cross-entropy of the predicted chances with what happened, in nats."""
    chances = actor.probabilities(seen)[np.arange(len(taken)), taken]
    return float(-np.log(np.maximum(chances, 1e-12)).mean())


def _downloads(
    setting: Setting, sessions: Sequence[Session], *, seed: int, epsilon: float
) -> tuple[Float[ndarray, "download feature"], Int[ndarray, "download"]]:
    """What the predictor sees of the downloads of sessions, and the intervals they fell into."""
    players: tuple[Policy, ...] = (MPC(setting), BBA(setting), Random(setting))
    found = [
        downloads(setting, player, sessions[number :: len(players)], seed=seed, epsilon=epsilon)
        for number, player in enumerate(players)
        if sessions[number :: len(players)]
    ]
    seen, taken_s = (np.concatenate(column) for column in zip(*found, strict=True))
    return seen, bin_of(taken_s)


def downloads(
    setting: Setting, player: Policy, sessions: Sequence[Session], *, seed: int, epsilon: float
) -> tuple[Float[ndarray, "download feature"], Float[ndarray, "download"]]:
    """What the predictor sees of the downloads that a player chose, and how long they took in s."""
    run = rollout(player, setting, sessions, seed=seed, record=True, epsilon=epsilon)
    last = run.final["delay_s"][:, None, -1]
    taken_s = np.concatenate([run.observations["delay_s"][:, 1:, -1], last], axis=1)
    sizes = run.observations["sizes_mb"][:, :, 0]
    sizes_mb = np.take_along_axis(sizes, run.actions[..., None].astype(np.int64), axis=2)[..., 0]
    coming = [np.pad(x, ((0, 0), (0, AHEAD - 1))) for x in (sizes_mb, taken_s)]
    windows = [np.lib.stride_tricks.sliding_window_view(x, AHEAD, axis=1) for x in coming]
    ahead_mb, ahead_s = (window.reshape(-1, AHEAD) for window in windows)
    flat = {
        name: values.reshape(-1, *values.shape[2:]) for name, values in run.observations.items()
    }
    there = ahead_s > 0
    return inputs(flat, ahead_mb[..., None])[:, :, 0][there], ahead_s[there]
