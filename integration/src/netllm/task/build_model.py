"""A model before training: on a frozen backbone, or a small network that is trained whole."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from netllm.task.base import DEFAULT_BACKBONE, Task

if TYPE_CHECKING:
    from netllm_adapt import Adapted, Recipe

ALL_LINEAR = "all-linear"
SCRATCH = ("scratch", "scratch-mlp")
SCRATCH_LAYERS = 4


def build_model(
    task: Task, setting: Any, backbone: str, recipe: Recipe, *, empty: bool = False
) -> Adapted:
    """The model before training: frozen backbone, fresh low-rank matrices, encoder and head.

    `scratch` is a small network that is trained whole, with as many trainable parameters as the
    default backbone's adapter, encoder and head have together, within 10 %; so is `scratch-mlp`,
    which learns no attention. An `empty` model has
    no memory for its weights: it lies on torch's meta device, its backbone made of its
    configuration alone.
    """
    import torch
    from netllm_adapt import BackboneSpec, add_lora
    from netllm_adapt.backbone import embedding_width, is_scratch

    if backbone in SCRATCH:
        return _scratch(task, setting, backbone, recipe, empty=empty)
    spec = BackboneSpec(
        backbone,
        layers=recipe.layers,
        dtype=recipe.dtype,
        seed=recipe.seed,
        quantise=recipe.quantise,
    )
    place: AbstractContextManager[Any] = torch.device("meta") if empty else nullcontext()
    plain = spec.empty() if empty else spec.load()
    width = embedding_width(plain)
    targets = ALL_LINEAR if recipe.targets == (ALL_LINEAR,) else [*recipe.targets] or None
    lora: Any = {"rank": recipe.rank, "alpha": recipe.alpha, "dropout": recipe.lora_dropout}
    with torch.random.fork_rng(devices=[]), place:
        torch.manual_seed(recipe.seed)
        return task.assemble(
            recipe,
            backbone=plain if is_scratch(backbone) else add_lora(plain, targets=targets, **lora),
            encoder=task.encoder(setting, recipe, width=width),
            head=task.head(setting, width=width),
            spec=spec,
        )


def _scratch(task: Task, setting: Any, kind: str, recipe: Recipe, *, empty: bool) -> Adapted:
    """The small network whose trainable parameters come closest to the adapter's."""
    build = partial(build_model, task, setting, empty=empty)
    layers = task.recipe().layers
    usual = dataclasses.replace(recipe, layers=layers, quantise=None)
    model = build(f"random-{DEFAULT_BACKBONE}", usual)
    wanted = trainable(model)
    own = dataclasses.replace(recipe, layers=None, dtype="float32")
    best = model
    for width in range(16, 512, 16):
        model = build(f"{kind}-{width}x{SCRATCH_LAYERS}", own)
        if width == 16 or abs(trainable(model) - wanted) < abs(trainable(best) - wanted):
            best = model
        if trainable(model) > wanted:
            break
    return best


def trainable(model: Adapted) -> int:
    """How many parameters are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
