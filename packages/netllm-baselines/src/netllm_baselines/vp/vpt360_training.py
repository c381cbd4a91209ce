"""Train VPT360 on a setting (needs the extra `learned`)."""

from pathlib import Path

from netllm_sims.vp import Setting
from netllm_sims.vp import setting as named_setting

from netllm_baselines._recipes_and_best_weights import override
from netllm_baselines.vp import _training_loop
from netllm_baselines.vp.training_recipe import Recipe
from netllm_baselines.vp.vpt360_network import network

RECIPE = Recipe(hidden=128, batch=256, train_stride=1, dropout=0.3)
"""The GRU's, with the better of the widths 64 and 128 on folds of the training part."""


def train_vpt360(
    setting: Setting | str,
    *,
    out: Path | str,
    steps: int | None = None,
    seed: int = 0,
    recipe: Recipe | None = None,
    threads: int = 1,
    command: str = "",
    **overrides: int | float | str | bool,
) -> Path:
    """Write the VPT360 of the last epoch (or the best, `keep_best`) to `out`; returns that path.

    The training is the GRU's, see `train_gru`.

    Args:
        setting: A setting or its name.
        out: The `.npz` to write.
        steps: Windows to learn from; None for the recipe's epochs.
        seed: Of everything random.
        recipe: Other numbers than the default ones.
        threads: torch threads while training.
        command: Remembered in the file's metadata.
        overrides: Single fields of the recipe.

    Raises:
        ValueError: An override is no field of the recipe, or useless.
    """
    setting = named_setting(setting) if isinstance(setting, str) else setting
    numbers = override(recipe or RECIPE, overrides)
    return _training_loop.train(
        setting,
        lambda generator: network(
            hidden=numbers.hidden,
            horizon=setting.horizon,
            dropout=numbers.dropout,
            blur=numbers.blur,
            generator=generator,
        ),
        out=out,
        recipe=numbers,
        steps=steps,
        seed=seed,
        threads=threads,
        meta={"kind": "vpt360", "command": command},
    )
