"""How a recipe's passes through the backbone compute: in int8, or activations once more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from netllm_adapt.llama.packed_weights import plain_of
from netllm_adapt.lora import check_int8

if TYPE_CHECKING:
    from netllm_adapt.model.base import Adapted
    from netllm_adapt.training.recipe import Recipe


def check_passes(model: Adapted, recipe: Recipe, device: torch.device) -> None:
    """Raise unless a model can learn in the way that the recipe asks for.

    Raises:
        ValueError: naming the field, with the reason.
    """
    if recipe.products == "int8":
        layers = [module for module in model.backbone.modules() if isinstance(module, nn.Linear)]
        if all(layer.weight.requires_grad for layer in layers):
            raise ValueError(
                f"Recipe: `products` must be None for {model.spec.name!r}: no linear layer is "
                "frozen."
            )
        check_int8(device.type)
    plain: Any = plain_of(model.backbone)
    if recipe.gradient_checkpointing and not _can_recompute(plain):
        raise ValueError(
            f"Recipe: `gradient_checkpointing` must be False for {model.spec.name!r}: "
            f"transformers' {type(plain).__name__} does not offer it."
        )


def _can_recompute(plain: Any) -> bool:
    return bool(getattr(plain, "supports_gradient_checkpointing", False))


@contextmanager
def recomputing(model: Adapted) -> Iterator[None]:
    """While training in this context, each block of the backbone keeps its input alone.

    The rest is computed again in the backward pass: gradient checkpointing.

    Source: Chen et al., "Training deep nets with sublinear memory cost", 2016, by transformers.
    """
    plain: Any = plain_of(model.backbone)
    if any(getattr(module, "gradient_checkpointing", False) for module in plain.modules()):
        yield
        return
    new = hasattr(plain, "activation_checkpointing_enable")  # transformers renamed it in 5.24
    name = "activation_checkpointing" if new else "gradient_checkpointing"
    getattr(plain, f"{name}_enable")({"use_reentrant": False})
    if any(hasattr(plain, f"_require_grads_hook{end}") for end in ("", "s")):
        plain.disable_input_require_grads()  # a hook that only reentrant ones need
    try:
        yield
    finally:
        getattr(plain, f"{name}_disable")()
