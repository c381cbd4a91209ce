"""The weights of a Llama-type backbone as the lean pass reads them: merged, joined, packed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor, nn

from netllm_adapt.lora import mixes
from netllm_adapt.lora._laid import can_lay_out, lay_out, product, product_with

_BACKBONES = {"LlamaModel", "MistralModel", "Qwen2Model"}
# The other kinds change their frequencies with the length of the row.
_ROTATIONS = {"default", "linear", "llama3", "yarn"}


class Product:
    """``x·Wᵀ + bias`` for rows ``x``, with the weights packed by oneDNN where it can.

    torch packs a plain weight anew at every call, which for a few rows costs as much as the
    product. Both forms round once, after the bias and what is added or multiplied.
    """

    def __init__(self, weight: Float[Tensor, "out in"], bias: Tensor | None) -> None:
        self._bias = None if bias is None else bias.detach().contiguous()  # as oneDNN reads it
        self._packed = can_lay_out(weight.dtype)
        self._weight = lay_out(weight) if self._packed else weight

    def __call__(self, x: Float[Tensor, "row in"]) -> Float[Tensor, "row out"]:
        """The product itself."""
        if not self._packed:
            return F.linear(x, self._weight, self._bias)
        return product(x, self._weight, self._bias)

    def silu(self, x: Float[Tensor, "row in"]) -> Float[Tensor, "row out"]:
        """The SiLU of the product."""
        if not self._packed:
            return F.silu(self(x))
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "swish", [], "")
        return y

    def times(self, x: Float[Tensor, "row in"], other: Tensor) -> Float[Tensor, "row out"]:
        """The product times `other`, element by element."""
        if not self._packed:
            return self(x) * other
        return product_with(x, other, self._weight, self._bias, "mul")

    def plus(self, x: Float[Tensor, "row in"], other: Tensor) -> Float[Tensor, "row out"]:
        """The product plus `other`."""
        if not self._packed:
            return self(x) + other
        return product_with(x, other, self._weight, self._bias, "add")


class Norm:
    """RMS norm, computed as the layer norm of (x, -x), whose mean is zero.

    torch has one kernel for layer norm and a chain of eight for RMS norm. Computes in fp32 and
    rounds once.
    """

    def __init__(self, weight: Float[Tensor, "width"], eps: float) -> None:
        self._weight = torch.stack([weight.detach(), torch.zeros_like(weight)])
        self._signs = torch.tensor([[1.0], [-1.0]], dtype=weight.dtype, device=weight.device)
        self._eps = eps

    def __call__(self, x: Float[Tensor, "row width"]) -> Float[Tensor, "row width"]:
        """Every row over the root of its mean square, times the weight."""
        pairs = x[:, None] * self._signs
        normed = F.layer_norm(pairs, self._weight.shape, self._weight, None, self._eps)
        return normed[:, 0].contiguous()


@dataclass(frozen=True)
class Layer:
    """One block; `qkv` gives for each key its group's queries, the key and the value."""

    norm: Norm
    qkv: Product
    out: Product
    mlp_norm: Norm
    gate: Product
    up: Product
    down: Product


@dataclass(frozen=True)
class Weights:
    """What the lean pass needs to know of a backbone; holds no reference to it."""

    layers: list[Layer]
    norm: Norm
    dtype: torch.dtype
    heads: int
    """Of keys and values."""
    groups: int
    """Queries per key."""
    head_dim: int
    scale: float
    rotation: nn.Module

    def tables(self, positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (position, head_dim); the sines carry the sign of the rotated half."""
        like = torch.zeros(1, dtype=self.dtype, device="cpu")
        cos, sin = self.rotation(like, torch.arange(positions, device="cpu")[None])
        half = self.head_dim // 2
        return cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=1)


def uncovered(backbone: nn.Module) -> str | None:
    """Why the lean pass cannot stand in for the backbone's own; None if it can."""
    if (reason := strange(backbone)) is not None:
        return reason
    plain: Any = plain_of(backbone)
    if plain.training:
        return "it is in training mode"
    if mixes(backbone):
        return "its rows mix `adapters`"
    for name, module in _linears(plain):
        if not _is_plain(module):
            return f"{name} is a {type(module).__name__} or has an unusual adapter"
    return None


def strange(backbone: nn.Module) -> str | None:
    """Why the backbone is not a Llama-type model on a CPU as the lean passes know it."""
    plain: Any = plain_of(backbone)
    known = type(plain).__module__.startswith("transformers.models.")
    if not known or type(plain).__name__ not in _BACKBONES:
        names = ", ".join(sorted(_BACKBONES))
        return f"it is a {type(plain).__name__}, not one of transformers' {names}"
    if {p.device.type for p in backbone.parameters()} != {"cpu"}:
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


def _linears(plain: Any) -> Iterator[tuple[str, nn.Module]]:
    for index, layer in enumerate(plain.layers):
        for part, names in (("self_attn", "qkvo"), ("mlp", ("gate", "up", "down"))):
            for name in names:
                module = getattr(getattr(layer, part), f"{name}_proj")
                yield f"layers.{index}.{part}.{name}_proj", module


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


_kept: WeakKeyDictionary[nn.Module, tuple[Hashable, Weights]] = WeakKeyDictionary()


def weights_of(backbone: nn.Module) -> Weights:
    """The weights of a backbone that is not `uncovered`; made once and again after a change.

    They take as much memory as the backbone's blocks, as long as the backbone lives.
    """
    state = _state(backbone)
    kept = _kept.get(backbone)
    if kept is None or kept[0] != state:
        kept = _kept[backbone] = (state, _read(plain_of(backbone)))
    return kept[1]


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
def _read(plain: Any) -> Weights:
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

    return Weights(
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
