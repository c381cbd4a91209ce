"""Layers of a model that read the same tensor, computed in one go."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from netllm_adapt.lora._grouped import compute_group
from netllm_adapt.lora._layer import Computed, LoraLinear, plain_of

FUSIBLE = ("llama", "mistral", "qwen2", "qwen3")
"""transformers' models whose attention and MLP give the same tensor to these layers."""
_SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def together(layers: Sequence[nn.Module], x: Tensor) -> tuple[Tensor, ...] | None:
    """The output of each layer, by one operation; None if they must be called one by one.

    Frozen layers may be among them. One by one are dropout (each layer has a mask of its own),
    rows that mix `adapters`, and what PEFT's own forward pass serves, such as DoRA.
    """
    parts: list[tuple[Any, ...]] = []
    for layer in layers:
        if type(layer) is nn.Linear:
            parts.append((layer.weight, layer.bias, None, 1.0, "a frozen layer"))
            continue
        adapter = layer.alone() if isinstance(layer, LoraLinear) else None
        if adapter is None or adapter.dropout:
            return None
        mine: Any = layer
        weight, bias = mine.frozen_weight(), mine.base_layer.bias
        parts.append((weight, bias, adapter[:2], adapter.scale, mine.title))
    return compute_group(x, *zip(*parts, strict=True))


class Siblings:
    """Adapted layers that read the same tensor, in one forward pass of their parent.

    The first that is called computes all, and the others take their parts if they are called with
    the same tensor, unchanged. Any other call computes its own layer.
    """

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self._layers: Sequence[LoraLinear] | None = layers
        # One assignment, so that calls from other threads find all of it or nothing.
        self._found: tuple[Tensor, int, dict[Computed, Tensor]] | None = None

    def take(self, layer: Computed, x: Tensor) -> Tensor | None:
        """The layer's output, if it is computed with the others'."""
        if x.is_inference():  # they do not count their changes
            return None
        layers, self._layers = self._layers, None
        if layers is not None and (outputs := together(layers, x)) is not None:
            self._found = x, x._version, dict(zip(layers, outputs, strict=True))
        found = self._found
        if found is None or found[0] is not x or found[1] != x._version:
            return None
        return found[2].pop(layer, None)


def begin(parent: nn.Module, *_: Any) -> None:
    """A hook before the parent's forward pass; compiled code computes layer by layer."""
    if not torch.compiler.is_compiling():
        for layers in _siblings(parent):
            siblings = Siblings(layers)
            for layer in layers:
                layer.siblings = siblings


def end(parent: nn.Module, *_: Any) -> None:
    """A hook after it, also if it failed: what was not taken is dropped."""
    if not torch.compiler.is_compiling():
        for layers in _siblings(parent):
            for layer in layers:
                layer.siblings = None


def _siblings(parent: nn.Module) -> Iterator[list[LoraLinear]]:
    """Two or more adapted layers of the parent that read the same tensor."""
    for names in _SIBLINGS:
        layers = [getattr(parent, name, None) for name in names]
        adapted = [layer for layer in layers if isinstance(layer, LoraLinear)]
        if len(adapted) > 1:
            yield adapted


def check_fusible(backbone: PreTrainedModel | PeftModel) -> None:
    """Nothing, if layers of the backbone can be fused.

    Raises:
        ValueError: Naming the models whose layers can.
    """
    plain = plain_of(backbone)
    if type(plain).__module__ not in _modules():
        raise ValueError(
            f"`fuse` is for transformers' models of type {', '.join(FUSIBLE)}, got a "
            f"{type(plain).__name__}. Leave it out."
        )


def fuse_layers(model: PeftModel) -> PeftModel:
    """The model, whose adapted layers that read the same tensor are computed in one go."""
    for parent in model.get_base_model().modules():
        known = type(parent).__module__ in _modules()
        if known and any(_siblings(parent)) and not is_fused(parent):
            parent.register_forward_pre_hook(begin)
            parent.register_forward_hook(end, always_call=True)
    return model


def is_fused(parent: nn.Module) -> bool:
    """Whether `fuse_layers` found layers of this module."""
    return begin in parent._forward_pre_hooks.values()


def hooked(module: nn.Module) -> bool:
    """Whether the module has hooks about its forward pass, other than these."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    return any(hook is not begin and hook is not end for hook in hooks)


def _modules() -> list[str]:
    return [f"transformers.models.{kind}.modeling_{kind}" for kind in FUSIBLE]
