"""Which backbones the lean passes cover, and their weights: merged, joined, packed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor, nn

from netllm_adapt.llama.inference import Layer, LeanPass, LeanWeights, Norm, Product
from netllm_adapt.lora import mixes

_BACKBONES = {"LlamaModel", "MistralModel", "Qwen2Model"}
# The other kinds change their frequencies with the length of the row.
_ROTATIONS = {"default", "linear", "llama3", "yarn"}


def uncovered(backbone: nn.Module) -> str | None:
    """Why the lean pass cannot stand in for the backbone's own; None if it can."""
    if (reason := strange(backbone)) is not None:
        return reason
    plain: Any = plain_of(backbone)
    if plain.training:
        return "it is in training mode"
    if mixes(backbone):
        return "its rows mix `adapters`"
    for name, module in plain.layers.named_modules():
        if name.endswith("_proj") and not _is_plain(module):
            return f"layers.{name} is a {type(module).__name__} or has an unusual adapter"
    return None


def strange(backbone: nn.Module) -> str | None:
    """Why the backbone is not a Llama-type model on a CPU as the lean passes know it."""
    plain: Any = plain_of(backbone)
    known = type(plain).__module__.startswith("transformers.models.")
    if not known or type(plain).__name__ not in _BACKBONES:
        names = ", ".join(sorted(_BACKBONES))
        return f"it is a {type(plain).__name__}, not one of transformers' {names}"
    # A model without memory is planned for the CPU.
    if {p.device.type for p in backbone.parameters()} not in ({"cpu"}, {"meta"}):
        return "it does not lie on the CPU"
    frozen = [p for n, p in plain.named_parameters() if "lora_" not in n]
    if len({p.dtype for p in frozen if p.is_floating_point()}) != 1:  # quantised ones are integers
        return "its weights differ in dtype"
    if plain.config.hidden_act != "silu" or plain.rotary_emb.rope_type not in _ROTATIONS:
        return (
            f"its activation is {plain.config.hidden_act!r} and its positions are "
            f"{plain.rotary_emb.rope_type!r}; 'silu' and {sorted(_ROTATIONS)} are covered"
        )
    if any(m._forward_pre_hooks or m._forward_hooks for m in backbone.modules()):
        return "it has forward hooks"
    return None


def plain_of(backbone: nn.Module) -> nn.Module:
    """The model inside PEFT's wrapper; the wrapper if it does more than low-rank matrices."""
    if isinstance(backbone, PeftModel) and not backbone.active_peft_config.is_prompt_learning:
        inner: nn.Module = backbone.get_base_model()
        return inner
    return backbone


def _is_plain(module: Any) -> bool:
    if not isinstance(module, PeftLinear):
        return type(module) is nn.Linear
    if type(module.base_layer) is not nn.Linear:
        return False
    return not any(a in module.lora_variant or module.lora_bias[a] for a in _adapters(module))


def _adapters(module: Any) -> list[str]:
    """The adapters whose low-rank part the layer's forward pass would add."""
    if module.disable_adapters or module.merged:
        return []
    return [name for name in module.active_adapters if name in module.lora_A]


def _merged(module: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias with the low-rank part added in fp32 and rounded once."""
    if not isinstance(module, PeftLinear):
        linear: Any = module
        return linear.weight.detach(), linear.bias
    base: Any = module.base_layer
    weight: Tensor = base.weight.detach()
    for name in _adapters(module):
        weight = weight.float() + module.get_delta_weight(name).detach().float()
    return weight.to(base.weight.dtype), base.bias


_read_before: WeakKeyDictionary[nn.Module, tuple[Hashable, LeanWeights]] = WeakKeyDictionary()


def lean_weights(backbone: nn.Module) -> LeanWeights:
    """The weights of a backbone that is not `uncovered`; read once, and again after a change.

    They take as much memory as the backbone's blocks, as long as the backbone lives, or until
    `forget_lean_weights`.
    """
    state = _state(backbone)
    before = _read_before.get(backbone)
    if before is None or before[0] != state:
        before = _read_before[backbone] = (state, _read(plain_of(backbone)))
    return before[1]


def forget_lean_weights(backbone: nn.Module) -> None:
    """Let go of what was read; a `LeanPass` goes on with what it has."""
    _read_before.pop(backbone, None)


def lean_pass(backbone: nn.Module, lean: bool | None) -> LeanPass | None:
    """The lean pass with the weights of this moment, if it is to be taken.

    Args:
        backbone: in eval mode.
        lean: whether it is asked for; if None, it is taken where it covers the backbone.

    Raises:
        ValueError: if it is asked for and the backbone is `uncovered`.
    """
    reason = None if lean is False else uncovered(backbone)
    if lean and reason is not None:
        raise ValueError(
            f"`lean` must be None or False for this backbone: {reason}. "
            "The library's own pass serves it."
        )
    return None if lean is False or reason is not None else LeanPass(lean_weights(backbone))


def _state(backbone: nn.Module) -> Hashable:
    """Changes with every parameter and with what PEFT merged or switched.

    The sum finds changes of trained parameters that went past the version counter, by `.data`.
    """
    parameters = tuple(
        (
            p.data_ptr(),
            0 if p.is_inference() else p._version,
            float(p.detach().sum(dtype=torch.float64)) if p.requires_grad else 0.0,
        )
        for p in backbone.parameters()
    )
    adapters = tuple(
        (tuple(_adapters(m)), tuple(m.merged_adapters), tuple(m.scaling.values()))
        for m in backbone.modules()
        if isinstance(m, PeftLinear)
    )
    return parameters, adapters


@torch.no_grad()
def _read(plain: Any) -> LeanWeights:
    attention = plain.layers[0].self_attn
    groups, head_dim = attention.num_key_value_groups, attention.head_dim
    heads = plain.config.num_attention_heads // groups
    eps = plain.config.rms_norm_eps

    def read(layer: Any) -> Layer:
        own, mlp = layer.self_attn, layer.mlp
        return Layer(
            norm=Norm(layer.input_layernorm.weight, eps),
            qkv=Product(*_join(own, heads)),
            out=Product(*_merged(own.o_proj)),
            mlp_norm=Norm(layer.post_attention_layernorm.weight, eps),
            gate=Product(*_merged(mlp.gate_proj)),
            up=Product(*_merged(mlp.up_proj)),
            down=Product(*_merged(mlp.down_proj)),
        )

    return LeanWeights(
        layers=[read(layer) for layer in plain.layers[: plain.config.num_hidden_layers]],
        norm=Norm(plain.norm.weight, eps),
        dtype=plain.norm.weight.dtype,
        heads=heads,
        groups=groups,
        head_dim=head_dim,
        scale=attention.scaling,
        rotation=plain.rotary_emb,
    )


def _join(attention: Any, heads: int) -> tuple[Tensor, Tensor | None]:
    """Queries, keys and values as one matrix: the queries of a key's group, the key, the value."""
    parts = [_merged(getattr(attention, f"{name}_proj")) for name in "qkv"]
    weight = torch.cat([w.view(heads, -1, w.shape[1]) for w, _ in parts], dim=1)
    biases = [b.view(heads, -1) for _, b in parts if b is not None]
    bias = torch.cat(biases, dim=1).flatten() if len(biases) == len(parts) else None
    return weight.flatten(0, 1), bias
