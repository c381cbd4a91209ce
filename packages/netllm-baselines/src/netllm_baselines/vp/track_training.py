"""Train TRACK on a setting (needs the extra `learned`)."""

from pathlib import Path

from netllm_sims.vp import Setting
from netllm_sims.vp import setting as named_setting

from netllm_baselines._recipes_and_best_weights import override
from netllm_baselines.vp import _training_loop
from netllm_baselines.vp.saliency import Maps
from netllm_baselines.vp.track_network import network
from netllm_baselines.vp.training_recipe import Recipe

RECIPE = Recipe(hidden=192)
"""Narrower than the GRU and on fewer windows: one pass costs seven times as much."""


def train_track(
    setting: Setting | str,
    *,
    out: Path | str,
    saliency: bool = False,
    steps: int | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    threads: int = 1,
    command: str = "",
    **overrides: int | float | str | bool,
) -> Path:
    """Write the TRACK of the last epoch (or the best, `keep_best`) to `out`; returns that path.

    The training is the GRU's, see `train_gru`.

    Args:
        setting: A setting or its name.
        out: The `.npz` to write.
        saliency: Learn from maps of the frames too; the setting must have frames.
        steps: Windows to learn from; None for the recipe's epochs.
        seed: Of everything random.
        recipe: Other numbers than the default ones.
        threads: torch threads while training.
        command: Remembered in the file's metadata.
        overrides: Single fields of the recipe.

    Raises:
        ValueError: An override is no field of the recipe, or useless; saliency without frames.
    """
    setting = named_setting(setting) if isinstance(setting, str) else setting
    numbers = override(recipe or RECIPE, overrides)
    maps = Maps(setting, before=setting.history, after=setting.horizon) if saliency else None
    return _training_loop.train(
        setting,
        lambda generator: network(
            hidden=numbers.hidden,
            horizon=setting.horizon,
            saliency=saliency,
            dropout=numbers.dropout,
            blur=numbers.blur,
            generator=generator,
        ),
        out=out,
        recipe=numbers,
        steps=steps,
        seed=seed,
        threads=threads,
        meta={"kind": "track", "saliency": saliency, "command": command},
        maps=maps,
    )
