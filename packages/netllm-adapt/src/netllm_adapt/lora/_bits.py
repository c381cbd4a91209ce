"""The layers of bitsandbytes that are used here; imported only where bitsandbytes is.

They quantise weights alone: each pass makes them whole in the dtype of its input. bitsandbytes'
own layers also round activations (``Linear8bitLt``) and rearrange weights on some CPUs at the first
decision (``Linear4bit``), so that their answers depend on how tokens come.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import bitsandbytes as bnb
import torch
from peft.tuners.lora import bnb as peft_bnb
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from netllm_adapt.lora._layer import Computed
from netllm_adapt.lora._packed import Packed, packed_linear


def _unpack_4bit(weight: Any, dtype: torch.dtype) -> Tensor:
    full: Tensor = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
    return full.to(dtype)


def _unpack_8bit(weight: Any, scale: Tensor, dtype: torch.dtype) -> Tensor:
    # As `int8_vectorwise_dequant`, which old releases lack, in one pass less.
    full: Tensor = weight.data * (scale.to(weight.device) / 127)[:, None]
    return full.to(dtype)


def _packed(layer: Any) -> Packed:
    """The weight of a bitsandbytes layer as it is now."""
    weight = layer.weight
    unpack: Callable[[torch.dtype], Tensor]
    if isinstance(layer, bnb.nn.Linear4bit):
        unpack = partial(_unpack_4bit, weight)
    else:
        scale = layer.state.SCB if weight.SCB is None else weight.SCB
        unpack = partial(_unpack_8bit, weight, scale)
    return Packed(unpack, (layer.out_features, layer.in_features), weight.device)


def _pass(layer: Any, x: Tensor) -> Tensor:
    bias = layer.bias
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    return packed_linear(x, _packed(layer), None if bias is None else bias.to(x.dtype))


class Linear4bit(bnb.nn.Linear4bit):  # type: ignore[misc, unused-ignore]
    """A frozen layer in 4 bits."""

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, in the dtype of ``x``."""
        return _pass(self, x)


class Linear8bit(bnb.nn.Linear8bitLt):  # type: ignore[misc, unused-ignore]
    """A frozen layer in 8 bits."""

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, in the dtype of ``x``."""
        return _pass(self, x)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Moved to a device, with the scales that bitsandbytes would leave behind."""
        super()._apply(fn, recurse)
        weight: Any = self.weight
        if weight.SCB is not None:
            weight.SCB = weight.SCB.to(weight.device)
        return self


class _Quantised(Computed):
    def frozen_weight(self) -> Packed:
        """The frozen layer's weight, (outputs, inputs)."""
        return _packed(self.base_layer)

    def covers(self, x: Tensor) -> bool:
        """Whether the weight can be made whole as ``x`` needs it, else bitsandbytes serves."""
        base: Any = self.base_layer
        autocasts = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if autocasts else x.dtype
        if base.bias is not None and base.bias.dtype != dtype and not autocasts:
            return False
        if isinstance(base, bnb.nn.Linear8bitLt):
            return base.weight.dtype == torch.int8  # else it is quantised anew for each pass
        state = getattr(base.weight, "quant_state", None)
        ready = state is not None and not getattr(state, "packing_format_for_cpu", False)
        return ready and base.compute_dtype in (None, dtype)


class LoraLinear4bit(_Quantised, peft_bnb.Linear4bit):  # type: ignore[misc, unused-ignore]
    """PEFT's LoRA layer over 4 bits, computed by ``lora_linear``."""


class LoraLinear8bit(_Quantised, peft_bnb.Linear8bitLt):  # type: ignore[misc, unused-ignore]
    """PEFT's LoRA layer over 8 bits, computed by ``lora_linear``."""


def adapted(target: nn.Module, adapter_name: str, **options: Any) -> nn.Module | None:
    """Our LoRA layer over a layer of bitsandbytes, also one that somebody else made; else None."""
    if isinstance(target, bnb.nn.Linear4bit):
        return LoraLinear4bit(target, adapter_name, **options)
    if isinstance(target, bnb.nn.Linear8bitLt):
        return LoraLinear8bit(target, adapter_name, **options)
    return None


def quantised(layer: nn.Module, kind: str) -> nn.Module:
    """The frozen layer in ``nf4`` or ``int8``, quantised where its weight lies."""
    weight: Any = layer.weight
    weight = weight.detach()
    if isinstance(layer, Conv1D):
        weight = weight.t()
    outputs, inputs = weight.shape
    new: Any
    if kind == "nf4":
        new = Linear4bit(inputs, outputs, bias=False, quant_type=kind, device="meta")
        new.weight = bnb.nn.Params4bit(
            weight.contiguous(), requires_grad=False, quant_type=kind, module=new
        ).to(weight.device)
    else:
        new = Linear8bit(inputs, outputs, bias=False, has_fp16_weights=False, device="meta")
        new.weight = bnb.nn.Int8Params(weight.contiguous(), requires_grad=False).to(weight.device)
        new.weight.CB = None  # a second name of its data, which moving it would keep alive
    new.bias = layer.bias
    module: nn.Module = new.train(layer.training)
    return module
