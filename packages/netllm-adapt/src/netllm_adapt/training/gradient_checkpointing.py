"""Activations that are computed again for gradients instead of being kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from netllm_adapt.llama.packed_weights import plain_of


def check_recomputing(backbone: nn.Module, name: str) -> None:
    """Raise unless a backbone, of this name, can compute its activations again.

    Raises:
        ValueError: naming the recipe's field.
    """
    plain = plain_of(backbone)
    if not getattr(plain, "supports_gradient_checkpointing", False):
        raise ValueError(
            f"Recipe: `gradient_checkpointing` must be False for {name!r}: "
            f"transformers' {type(plain).__name__} does not offer it."
        )


@contextmanager
def recomputing(backbone: nn.Module) -> Iterator[None]:
    """While training in this context, each block of a backbone keeps its input alone.

    The rest is computed again in the backward pass: gradient checkpointing.

    Source: Chen et al., "Training deep nets with sublinear memory cost", 2016, by transformers.
    """
    plain: Any = plain_of(backbone)
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
