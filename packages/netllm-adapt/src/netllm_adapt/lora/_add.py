from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import get_pattern_key
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from netllm_adapt.lora._layer import calm, entitle, plain_of, use_our_layer
from netllm_adapt.lora._targets import choose


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
        targets: Ends of the names of the layers to adapt, ``"all-linear"``, or None for the
            default of the model's type: query and value projections, ``c_attn`` for GPT-2.
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
    layers = choose(plain, targets)
    ranks, alphas = options.get("rank_pattern") or {}, options.get("alpha_pattern") or {}
    for layer_name, layer in layers.items():
        _check_rank(_own(rank, ranks, layer_name), layer_name, layer)
        _check_alpha(_own(alpha, alphas, layer_name), layer_name)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,  # type: ignore[arg-type, unused-ignore]
        target_modules=sorted(layers) if targets == "all-linear" else _short(plain, layers),
        lora_dropout=dropout,
        use_rslora=rslora,
        fan_in_fan_out=any(type(layer) is Conv1D for layer in layers.values()),
        **options,
    )
    with torch.random.fork_rng(devices=[]), calm():
        torch.manual_seed(seed)
        if isinstance(backbone, PeftModel):
            return add_another(backbone, name, use_our_layer(config), trainable=True)
        made = get_peft_model(backbone, use_our_layer(config), adapter_name=name)
        assert isinstance(made, PeftModel)
        return entitle(made)


def check_name(backbone: nn.Module, name: str) -> None:
    """Nothing, if the backbone can take an adapter ``name``.

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


def add_another(model: PeftModel, name: str, config: PeftConfig, *, trainable: bool) -> PeftModel:
    """One more adapter; PEFT would let the active one alone train, here those that did go on."""
    before = {parameter: weight.requires_grad for parameter, weight in model.named_parameters()}
    model.add_adapter(name, config)
    for parameter, weight in model.named_parameters():
        weight.requires_grad_(before.get(parameter, trainable and f".{name}." in parameter))
    return entitle(model)


def _short(plain: nn.Module, layers: dict[str, nn.Module]) -> list[str]:
    """The last parts of the layers' names, or the names where those would mean more layers."""
    short = sorted({name.rsplit(".", 1)[-1] for name in layers})
    return short if choose(plain, short).keys() == layers.keys() else sorted(layers)


def _own(value: Any, patterns: Mapping[str, Any], name: str) -> Any:
    """The value of the layer `name`, for which PEFT's patterns may have one of its own."""
    return patterns.get(get_pattern_key(list(patterns), name), value)


def _check_rank(rank: Any, name: str, layer: nn.Module) -> None:
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise ValueError(f"`rank` must be a whole number, got {rank!r} for {name}.")
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, got {rank} for {name}.")
    side = _smaller_side(layer)
    if rank > side:
        raise ValueError(f"`rank` must be at most {side}, the smaller side of {name}, got {rank}.")


def _check_alpha(alpha: Any, name: str) -> None:
    if alpha is not None and not (isinstance(alpha, int | float) and 0 < alpha < float("inf")):
        raise ValueError(f"`alpha` must be a number above 0, got {alpha!r} for {name}.")


def _smaller_side(layer: nn.Module) -> int:
    """The layer's smaller number of inputs or outputs; a weight in 4 bits is packed, one column."""
    if isinstance(layer, nn.Linear):
        return min(layer.in_features, layer.out_features)
    weight: Any = layer.weight
    return min(weight.shape)
