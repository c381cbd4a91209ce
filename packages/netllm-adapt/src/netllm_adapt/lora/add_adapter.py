"""Low-rank matrices are added to the linear layers of a backbone, by PEFT."""

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as DEFAULTS
from peft.utils.other import get_pattern_key
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from netllm_adapt.lora.peft_layer import plain_of, take_over

ALL_LINEAR = "all-linear"


def add_lora(
    backbone: PreTrainedModel | PeftModel,
    *,
    rank: int,
    alpha: float | None = None,
    targets: str | list[str] | None = None,
    dropout: float = 0.0,
    rslora: bool = False,
    seed: int = 0,
    name: str = "default",
    **options: Any,
) -> PeftModel:
    """The backbone as a PEFT model whose low-rank matrices are all that trains.

    The backbone is changed in place. The matrices are fp32, whatever its dtype; B starts at zero,
    so the first output is the backbone's own.

    Args:
        backbone: From ``load_backbone``; or from this function, which adds another adapter to it.
            Those before go on training if they did; ``adapters`` says which rows use which.
        rank: Of the matrices: at least 1, at most the smaller side of every target.
        alpha: The low-rank part is scaled by alpha / rank; None means alpha = rank.
        targets: Ends of the names of the layers to adapt, ``"all-linear"``, or None for
            PEFT's default of the model's type, mostly the query and value projections.
        dropout: Share of a target's input dropped before the low-rank part while training.
        rslora: Scale by alpha / sqrt(rank) instead.
        seed: Of the first A; global random streams are left as they were.
        name: Of the adapter.
        **options: Any further field of ``peft.LoraConfig``, such as ``use_dora``.

    Raises:
        ValueError: If the backbone has an adapter of that name, or an argument does not fit it.

    Source: LoRA (Hu et al., ICLR 2022); rsLoRA (Kalajdzievski, 2023), through PEFT.
    """
    check_name(backbone, name)
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be at least 0 and below 1, got {dropout}.")
    plain = plain_of(backbone)
    layers, targets = choose_targets(plain, targets)
    ranks, alphas = options.get("rank_pattern") or {}, options.get("alpha_pattern") or {}
    for layer_name, layer in layers.items():
        _check_rank(_own(rank, ranks, layer_name), layer_name, layer)
        _check_alpha(_own(alpha, alphas, layer_name), layer_name)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,  # type: ignore[arg-type, unused-ignore]
        target_modules=targets,
        lora_dropout=dropout,
        use_rslora=rslora,
        fan_in_fan_out=any(type(layer) is Conv1D for layer in layers.values()),
        **options,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return insert(backbone, config, name, trainable=True)


def insert(
    backbone: PreTrainedModel | PeftModel, config: PeftConfig, name: str, *, trainable: bool
) -> PeftModel:
    """The backbone with one more adapter; those before go on training if they did.

    PEFT would let the active adapter alone train.

    Raises:
        ValueError: If accelerate keeps some of its weights elsewhere.
    """
    if any(getattr(getattr(m, "_hf_hook", None), "offload", False) for m in backbone.modules()):
        raise ValueError(
            "The backbone must lie on one device whole, some of this one's weights are offloaded "
            "(`device_map`): our layers read them where they lie. Make it smaller instead: "
            "load_backbone(…, quantise='nf4') or layers=…; `netllm plan` tells what fits."
        )
    with warnings.catch_warnings():
        # PEFT uses a name that the newest transformers deprecates, and corrects this field.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        if not isinstance(backbone, PeftModel):
            made = get_peft_model(backbone, config, adapter_name=name)
            assert isinstance(made, PeftModel)
            return take_over(made)
        before = {n: weight.requires_grad for n, weight in backbone.named_parameters()}
        backbone.add_adapter(name, config)
        for n, weight in backbone.named_parameters():
            weight.requires_grad_(before.get(n, trainable and f".{name}." in n))
        return take_over(backbone)


def twin_without_adapter(backbone: Any) -> PreTrainedModel:
    """The plain model of a backbone with adapters once more, which shares the frozen weights."""
    frozen: list[Any] = [p for p in backbone.parameters() if not p.requires_grad]
    # Of a layer in 8 bits the weight lies there too.
    frozen += [module.state for module in backbone.modules() if hasattr(module, "state")]
    twin: Any = copy.deepcopy(backbone, {id(one): one for one in frozen})
    plain: PreTrainedModel = twin.unload()
    if hasattr(plain, "peft_config"):  # before version 0.19 PEFT leaves it
        del plain.peft_config
    return plain


def active_adapter(model: PeftModel) -> str:
    """The name of the one active adapter.

    Raises:
        ValueError: If several are active, or there is none.
    """
    if not isinstance(model, PeftModel):
        raise ValueError(
            f"The model must hold an adapter, got a {type(model).__name__}: use `add_lora` on it."
        )
    active = model.active_adapters
    if len(active) != 1:
        raise ValueError(f"The model must have one active adapter, got {active}. Name one.")
    return str(active[0])


def check_name(backbone: nn.Module, name: str) -> None:
    """Raise unless the backbone can take an adapter ``name``.

    Raises:
        ValueError: If it has one of that name, or adapters that PEFT does not manage, or torch
            gives no module such a name.
    """
    if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict, name):
        raise ValueError(
            "`name` must be a string that is not empty, without '.', and none that a module uses "
            f"itself, such as 'forward', got {name!r}."
        )
    if isinstance(backbone, PeftModel):
        if name in backbone.peft_config:
            raise ValueError(
                f"The backbone has an adapter {name!r} already; give the other another `name`."
            )
    elif any(isinstance(module, BaseTunerLayer) for module in backbone.modules()):
        raise ValueError(
            "The backbone must be plain or what `add_lora` gave, this one has an adapter inside. "
            "Load it again."
        )


def _own(value: Any, patterns: Mapping[str, Any], name: str) -> Any:
    """The value of the layer `name`, for which PEFT's patterns may have one of its own."""
    return patterns.get(get_pattern_key(list(patterns), name), value)


def _check_rank(rank: Any, name: str, layer: nn.Module) -> None:
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise ValueError(f"`rank` must be a whole number, got {rank!r} for {name}.")
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, got {rank} for {name}.")
    sides: Any = layer.weight.shape
    if isinstance(layer, nn.Linear):  # a weight in 4 bits is packed, one column
        sides = layer.in_features, layer.out_features
    if rank > min(sides):
        raise ValueError(
            f"`rank` must be at most {min(sides)}, the smaller side of {name}, got {rank}."
        )


def _check_alpha(alpha: Any, name: str) -> None:
    if alpha is not None and not (isinstance(alpha, int | float) and 0 < alpha < float("inf")):
        raise ValueError(f"`alpha` must be a number above 0, got {alpha!r} for {name}.")


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


def choose_targets(
    model: nn.Module, targets: str | list[str] | None
) -> tuple[dict[str, nn.Module], list[str]]:
    """The layers that ``targets`` means, by their full names, and the targets as PEFT takes them.

    Raises:
        ValueError: If the model's type has no default, there is no target, or one fits no layer.
    """
    layers = linear_layers(model)
    last_names = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in layers}))
    if targets == ALL_LINEAR:
        return layers, sorted(layers)
    if targets is None:
        kind = getattr(model.config, "model_type", None)
        if kind not in DEFAULTS:
            raise ValueError(
                f"Models of type {kind!r} have no default targets; give `targets` as a list of "
                f"{last_names}, or as {ALL_LINEAR!r}."
            )
        targets = list(DEFAULTS[kind])
    if isinstance(targets, str):
        raise ValueError(f"`targets` must be a list or {ALL_LINEAR!r}, got {targets!r}.")
    if not targets:
        raise ValueError(f"`targets` must name at least one of {last_names}, got none.")
    for target in targets:
        if not any(_fits(name, target) for name in layers):
            raise ValueError(
                f"Each target must name a linear layer of the backbone: {last_names}; "
                f"{target!r} names none."
            )
    chosen = {n: layer for n, layer in layers.items() if any(_fits(n, t) for t in targets)}
    return chosen, list(targets)


def _fits(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)
