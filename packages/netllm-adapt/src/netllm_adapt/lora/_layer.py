"""PEFT's linear layer with our forward pass, and the one place that touches PEFT's private call."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from netllm_adapt.lora._op import lora_linear

_log = logging.getLogger(__name__)


class LoraLinear(Linear):
    """A PEFT LoRA layer over an exact ``nn.Linear`` or ``Conv1D``, computed by ``lora_linear``.

    What the operation does not cover runs PEFT's own forward pass: variants such as DoRA, adapters
    with a bias, several active adapters, mixed batches, disabled or merged adapters, autocast.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output."""
        name = None if args or kwargs else self._plain_adapter(x)
        if name is None:
            result: Tensor = super().forward(x, *args, **kwargs)
            return result
        base: Any = self.base_layer
        a: Any = self.lora_A[name]
        b: Any = self.lora_B[name]
        dropout = self.lora_dropout[name]
        return lora_linear(
            x,
            base.weight.t() if self.fan_in_fan_out else base.weight,
            base.bias,
            a.weight,
            b.weight,
            self.scaling[name],
            dropout=dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0,
        )

    def _plain_adapter(self, x: Tensor) -> str | None:
        """The one active adapter if the operation covers it."""
        if self.disable_adapters or self.merged:
            return None
        active = [name for name in self.active_adapters if name in self.lora_A]
        if len(active) != 1:
            return _leave("several active adapters") if active else None
        if active[0] in self.lora_variant:
            return _leave(type(self.lora_variant[active[0]]).__name__)
        if self.lora_bias[active[0]]:
            return _leave("lora_bias")
        if torch.is_autocast_enabled(x.device.type) or x.dtype != self.base_layer.weight.dtype:
            return _leave("autocast or mixed dtypes")
        return active[0]


@cache
def _leave(reason: str) -> None:
    _log.info("PEFT's own forward pass serves layers with %s.", reason)


def use_our_layer(config: LoraConfig) -> LoraConfig:
    """Make PEFT build ``LoraLinear`` for this configuration; the choice is never saved with it.

    PEFT matches the map by ``isinstance``. Ours answers None for subclasses (quantised layers,
    say), after which PEFT goes on to its own classes.
    """
    build: Any = _build  # PEFT expects a class and calls it
    config._register_custom_module({nn.Linear: build, Conv1D: build})
    return config


@contextmanager
def calm() -> Iterator[None]:
    """Hide PEFT's use of a transformers name that is deprecated in its newest versions."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        yield


def _build(target: nn.Module, adapter_name: str, **options: Any) -> LoraLinear | None:
    if type(target) not in (nn.Linear, Conv1D):
        return None
    turned = type(target) is Conv1D
    if "config" in options:
        options["config"].fan_in_fan_out = turned
    else:  # before PEFT 0.19 the configuration's fields came one by one
        options["fan_in_fan_out"] = turned
    return LoraLinear(target, adapter_name, is_target_conv_1d_layer=turned, **options)
