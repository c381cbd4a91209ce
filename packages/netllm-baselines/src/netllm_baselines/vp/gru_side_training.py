"""Train the GRU with side information on a setting (needs the extra `learned`)."""

from pathlib import Path

from netllm_sims.vp import Setting
from netllm_sims.vp import setting as named_setting

from netllm_baselines._recipes_and_best_weights import override
from netllm_baselines.vp import _training_loop
from netllm_baselines.vp.gru_side_network import network
from netllm_baselines.vp.training_recipe import Recipe

RECIPE = Recipe(hidden=128, epochs=2, train_stride=1, dropout=0.1, average=0.995)
"""Chosen on the validation part of `crowd-memory`."""


def train_gru_side(
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
    """Write the network of the last epoch (or the best, `keep_best`) to `out` and return that path.

    As `train_gru`, with the fields that the setting's `memory` and `crowd` show.

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
        ValueError: The setting shows neither, or an override is no field of the recipe, or useless.
    """
    setting = named_setting(setting) if isinstance(setting, str) else setting
    if not (setting.memory or setting.crowd):
        raise ValueError(
            f"gru-side learns from a memory or a crowd, setting {setting.name!r} shows neither. "
            "Train gru, or choose --setting crowd-memory."
        )
    numbers = override(recipe or RECIPE, overrides)
    shows = {"memory": setting.memory > 0, "crowd": setting.crowd > 0}
    meta = {"kind": "gru-side", "command": command, **shows, "memory": setting.memory}
    return _training_loop.train(
        setting,
        lambda generator: network(
            hidden=numbers.hidden,
            horizon=setting.horizon,
            dropout=numbers.dropout,
            generator=generator,
            **shows,
        ),
        out=out,
        recipe=numbers,
        steps=steps,
        seed=seed,
        threads=threads,
        meta=meta,
        side=True,
    )
