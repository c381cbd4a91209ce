"""Which linear layers of a model are adapted."""

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

# The attention's query and value projections, as in the LoRA paper; GPT-2 computes q, k and v in
# one layer.
DEFAULTS = {
    "gemma": ("q_proj", "v_proj"),
    "gemma2": ("q_proj", "v_proj"),
    "gemma3_text": ("q_proj", "v_proj"),
    "gpt2": ("c_attn",),
    "llama": ("q_proj", "v_proj"),
    "mistral": ("q_proj", "v_proj"),
    "opt": ("q_proj", "v_proj"),
    "qwen2": ("q_proj", "v_proj"),
    "qwen3": ("q_proj", "v_proj"),
}
ALL_LINEAR = "all-linear"


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer of the model by its full name, also those that are adapted already."""
    found: dict[str, nn.Module] = {}
    inside = "\0"
    for name, module in model.named_modules():
        if name.startswith(inside):
            continue
        layer = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
        if layer is not module:
            inside = f"{name}."
        if isinstance(layer, nn.Linear | Conv1D):
            found[name] = layer
    return found


def choose_targets(model: nn.Module, targets: str | list[str] | None) -> dict[str, nn.Module]:
    """The layers that ``targets`` means, by their full names.

    Raises:
        ValueError: If the model's type has no default, there is no target, or one fits no layer.
    """
    layers = linear_layers(model)
    if targets is None:
        kind = getattr(model.config, "model_type", None)
        if kind not in DEFAULTS:
            raise ValueError(
                f"Models of type {kind!r} have no default targets; give `targets` as a list of "
                f"{_last_names(layers)}, or as {ALL_LINEAR!r}."
            )
        targets = list(DEFAULTS[kind])
    if isinstance(targets, str):
        if targets != ALL_LINEAR:
            raise ValueError(f"`targets` must be a list or {ALL_LINEAR!r}, got {targets!r}.")
        return layers
    if not targets:
        raise ValueError(
            f"`targets` must name at least one linear layer of {_last_names(layers)}, got none."
        )
    for target in targets:
        if not any(_fits(name, target) for name in layers):
            raise ValueError(
                f"Each target must name a linear layer of the backbone: {_last_names(layers)}; "
                f"{target!r} names none."
            )
    return {n: layer for n, layer in layers.items() if any(_fits(n, t) for t in targets)}


def _fits(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def _last_names(layers: dict[str, nn.Module]) -> str:
    return ", ".join(sorted({name.rsplit(".", 1)[-1] for name in layers}))


def short_names(model: nn.Module, layers: dict[str, nn.Module]) -> list[str]:
    """The last parts of the layers' names, or the names where those would mean more layers."""
    short = sorted({name.rsplit(".", 1)[-1] for name in layers})
    return short if choose_targets(model, short).keys() == layers.keys() else sorted(layers)
