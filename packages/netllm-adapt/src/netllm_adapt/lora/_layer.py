"""PEFT's linear layer with our forward pass, and the one place that touches PEFT's private call."""

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from netllm_adapt.lora._check import check, check_input
from netllm_adapt.lora._grouped import compute_group
from netllm_adapt.lora._kept import forget
from netllm_adapt.lora._mixed import Adapter, Route, compute_mixed
from netllm_adapt.lora._op import autocast, compute
from netllm_adapt.lora._packed import Weight

_log = logging.getLogger(__name__)


class Computed(LoraLayer):
    """One of PEFT's LoRA layers, its second base, computed by ``lora_linear``.

    What the operation does not cover runs PEFT's own forward pass: variants such as DoRA, adapters
    with a bias, several active adapters, disabled or merged adapters.
    """

    fan_in_fan_out: bool

    title = "LoraLinear"
    """The layer's full name in the model, for errors."""

    route: Route | None = None
    """Where each adapter has its rows, inside `adapters`."""

    mixed_last = False
    """Whether `adapters` ended after the layer's last forward pass outside of it."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output."""
        if self.route is not None and self.mixes:
            return self._mixed(x, self.route)
        adapter = self.alone()
        if adapter is None or args or kwargs or not self.covers(x):
            check_input(x, self.frozen_weight(), self.title)
            result: Tensor = super().forward(x, *args, **kwargs)  # type: ignore[misc]
            return result
        a, b, scale, share = adapter
        bias: Any = self.base_layer.bias
        x, weight, bias = autocast(x, self.frozen_weight(), bias)
        check(x, weight, bias, a, b, share, self.title)
        return compute(x, weight, bias, a, b, scale, share)

    def alone(self) -> Adapter | None:
        """The one adapter that the operation computes here; None if it is left to another way."""
        if self.mixes:
            return None
        if self.mixed_last and not torch.compiler.is_compiling():
            self._leave_mixing()
        name = self._plain_adapter()
        return None if name is None else self._adapter(name)

    @property
    def mixes(self) -> bool:
        """Whether each row uses its own adapter now."""
        return self.route is not None and not self.disable_adapters

    def frozen_weight(self) -> Weight:
        """The frozen layer's weight, (outputs, inputs)."""
        weight = self.frozen_parameter
        return weight.t() if self.fan_in_fan_out else weight

    def covers(self, x: Tensor) -> bool:
        """Whether the operation takes the frozen weight as it is stored."""
        return True

    @property
    def frozen_parameter(self) -> Tensor:
        """The frozen layer's weight as it is stored."""
        weight: Any = self.base_layer.weight
        return weight

    def merge(self, *args: Any, **kwargs: Any) -> None:
        """PEFT's, which changes the frozen weight."""
        super().merge(*args, **kwargs)  # type: ignore[misc]
        forget(self.frozen_parameter)

    def unmerge(self) -> None:
        """PEFT's, which changes the frozen weight back."""
        super().unmerge()  # type: ignore[misc]
        forget(self.frozen_parameter)

    def refuse_merged(self) -> None:
        """Nothing, if adapters can be mixed here.

        Raises:
            ValueError: If one is merged into the frozen weight, which serves all rows.
        """
        if self.merged:
            raise ValueError(
                f"{self.title}: adapters can be mixed only unmerged. Call `unmerge_adapter`."
            )

    def _leave_mixing(self) -> None:
        """Go on outside of `adapters`, unless this repeats a forward pass that was inside.

        Raises:
            RuntimeError: If a backward pass is running: its gradients would be wrong.
        """
        if torch._C._current_graph_task_id() != -1:
            raise RuntimeError(
                f"{self.title}: the backward pass repeats a forward pass outside of `adapters`, "
                "though the model was last used inside. Call `backward` in the context of its "
                "forward pass."
            )
        self.mixed_last = False

    def _mixed(self, x: Tensor, route: Route) -> Tensor:
        """The output for rows of several adapters; some models flatten rows and tokens before."""
        self.refuse_merged()
        if not self.covers(x):
            raise ValueError(
                f"{self.title}: adapters can mix only over a frozen weight that is computed in the "
                f"dtype of `x`, {x.dtype}, and stored as when it was loaded. Load the model anew, "
                "by `load_backbone`."
            )
        rows = x
        if x.ndim == 2 and len(x) > route.count > 0 and len(x) % route.count == 0:
            rows = x.view(route.count, -1, x.shape[-1])
        if len(rows) != route.count:
            raise ValueError(
                f"{self.title}: `adapters` was told of {route.count} rows, the batch has "
                f"{len(rows)}."
            )
        bias: Any = self.base_layer.bias
        rows, weight, bias = autocast(rows, self.frozen_weight(), bias)
        names = [name for name in route.rows if name in self.lora_A]
        mine = [self._adapter(name) for name in names]
        for adapter in mine:
            check(rows, weight, bias, adapter.a, adapter.b, adapter.dropout, self.title)
        y = compute_mixed(rows, weight, bias, mine, [route.rows[name] for name in names])
        return y.view(*x.shape[:-1], y.shape[-1])

    def _adapter(self, name: str) -> Adapter:
        """The matrices of an adapter, and what goes with them."""
        a: Any = self.lora_A[name].weight
        b: Any = self.lora_B[name].weight
        return Adapter(a, b, self.scaling[name], self._share(name))

    def _share(self, name: str) -> float:
        """The dropout of an adapter now."""
        dropout = self.lora_dropout[name]
        return dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0

    def _plain_adapter(self) -> str | None:
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
        return active[0]


class LoraLinear(Computed, Linear):
    """PEFT's LoRA layer over an exact ``nn.Linear`` or ``Conv1D``, computed by ``lora_linear``."""


def outputs_of(layers: Sequence[nn.Module], x: Tensor) -> tuple[Tensor, ...]:
    """What each of some layers makes of the same tensor, by one operation where that is possible.

    Frozen layers may be among them. Layers are called one by one if one has dropout (each layer has
    a mask of its own), rows that mix `adapters`, or what PEFT's own forward pass serves.
    """
    parts: list[tuple[Any, ...]] = []
    for layer in layers:
        if type(layer) is nn.Linear:
            parts.append((layer.weight, layer.bias, None, 1.0, "a frozen layer"))
            continue
        adapter = layer.alone() if isinstance(layer, LoraLinear) else None
        if adapter is None or adapter.dropout:
            return tuple(layer(x) for layer in layers)
        mine: Any = layer
        weight, bias = mine.frozen_weight(), mine.base_layer.bias
        parts.append((weight, bias, adapter[:2], adapter.scale, mine.title))
    return compute_group(x, *zip(*parts, strict=True))


@cache
def _leave(reason: str) -> None:
    _log.info("PEFT's own forward pass serves layers with %s.", reason)


def use_our_layer(config: LoraConfig) -> LoraConfig:
    """Make PEFT build ``LoraLinear`` for this configuration; the choice is never saved with it.

    PEFT matches the map by ``isinstance``. Ours answers None for subclasses other than those of
    bitsandbytes, after which PEFT goes on to its own classes.
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


def _build(target: nn.Module, adapter_name: str, **options: Any) -> nn.Module | None:
    if type(target) not in (nn.Linear, Conv1D):
        if "bitsandbytes" not in sys.modules:
            return None
        from netllm_adapt.lora import _bits

        return _bits.adapted(target, adapter_name, **options)
    turned = type(target) is Conv1D
    if "config" in options:
        options["config"].fan_in_fan_out = turned
    else:  # before PEFT 0.19 the configuration's fields came one by one
        options["fan_in_fan_out"] = turned
    return LoraLinear(target, adapter_name, is_target_conv_1d_layer=turned, **options)


def entitle(model: PeftModel) -> PeftModel:
    """The model, whose layers know their names; not every PEFT tells them when it builds them."""
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, Computed):
            module.title = name
    return model


def plain_of(backbone: PreTrainedModel | PeftModel) -> Any:
    """The model inside PEFT's wrapper, where it has one."""
    return backbone.get_base_model() if isinstance(backbone, PeftModel) else backbone
