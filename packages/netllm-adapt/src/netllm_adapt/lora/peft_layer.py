"""PEFT's linear layers with our forward pass, which they take over once PEFT has built them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from netllm_adapt.lora.frozen_weights import forget
from netllm_adapt.lora.layer_group import Adapter, Rows, check
from netllm_adapt.lora.lora_linear import lora_linear, lora_linear_grouped, lora_linear_of_rows

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Route:
    """The adapter of each row of a batch, by its name; PEFT's ``"__base__"`` stands for none."""

    names: list[str]
    """One for each row."""
    rows: dict[str, Rows]
    """Where each adapter has its rows."""


class MixingLayer(nn.Module, LoraLayer):
    """One of PEFT's LoRA layers, its second base; inside `adapters` rows use their own adapters."""

    title = "LoraLinear"
    """The layer's full name in the model, for errors."""

    route: Route | None = None
    """Inside `adapters`."""

    mixed_last = False
    """Whether `adapters` ended after the layer's last forward pass outside of it."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's output."""
        if self.route is not None and self.mixes:
            return self._mixed(x, self.route)
        self.leave_mixing()
        return self._alone(x, *args, **kwargs)

    @property
    def mixes(self) -> bool:
        """Whether each row uses its own adapter now."""
        return self.route is not None and not self.disable_adapters

    def refuse_merged(self) -> None:
        """Raise unless adapters can be mixed here.

        Raises:
            ValueError: If one is merged into the frozen weight, which serves all rows.
        """
        if self.merged:
            raise ValueError(
                f"{self.title}: adapters can be mixed only unmerged. Call `unmerge_adapter`."
            )

    def _alone(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """PEFT's own forward pass."""
        result: Tensor = super().forward(x, *args, **kwargs)
        return result

    def leave_mixing(self) -> None:
        """Go on outside of `adapters`, unless this repeats a forward pass that was inside.

        Raises:
            RuntimeError: If a backward pass is running: its gradients would be wrong.
        """
        if not self.mixed_last or torch.compiler.is_compiling():
            return
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
        count = len(route.names)
        rows = x
        if x.ndim == 2 and len(x) > count > 0 and len(x) % count == 0:
            rows = x.view(count, -1, x.shape[-1])
        if len(rows) != count:
            raise ValueError(
                f"{self.title}: `adapters` was told of {count} rows, the batch has {len(rows)}."
            )
        y = self._of_rows(rows, route)
        return y.view(*x.shape[:-1], y.shape[-1])

    def _of_rows(self, x: Tensor, route: Route) -> Tensor:
        """PEFT's own mixed batch."""
        return MixingLayer._alone(self, x, adapter_names=route.names)


class LoraLinear(MixingLayer, Linear):
    """PEFT's LoRA layer over an exact ``nn.Linear`` or ``Conv1D``, computed by ``lora_linear``.

    What the operation does not cover runs PEFT's own forward pass: variants such as DoRA, adapters
    with a bias, several active adapters, disabled or merged adapters.
    """

    fan_in_fan_out: bool

    def adapter(self) -> Adapter | None:
        """The one adapter that the operation computes here; None if it is left to another way."""
        if self.mixes or self.merged or self.disable_adapters:
            return None
        self.leave_mixing()
        active = [name for name in self.active_adapters if name in self.lora_A]
        if len(active) != 1:
            return _leave("several active adapters") if active else None
        if active[0] in self.lora_variant:
            return _leave(type(self.lora_variant[active[0]]).__name__)
        if self.lora_bias[active[0]]:
            return _leave("lora_bias")
        return self._matrices(active[0])

    def frozen(self) -> tuple[Tensor, Tensor | None]:
        """The frozen layer's weight, (outputs, inputs), and its bias."""
        base: Any = self.base_layer
        return base.weight.t() if self.fan_in_fan_out else base.weight, base.bias

    def merge(self, *args: Any, **kwargs: Any) -> None:
        """PEFT's, which changes the frozen weight."""
        super().merge(*args, **kwargs)
        base: Any = self.base_layer
        forget(base.weight)

    def unmerge(self) -> None:
        """PEFT's, which changes the frozen weight back."""
        super().unmerge()
        base: Any = self.base_layer
        forget(base.weight)

    def _alone(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The output, of one adapter by our operation."""
        adapter = self.adapter()
        if adapter is None or args or kwargs:
            check(x, *self.frozen(), self.title)
            return super()._alone(x, *args, **kwargs)
        a, b, scale, dropout = adapter
        return lora_linear(x, *self.frozen(), a, b, scale, dropout=dropout, layer=self.title)

    def _of_rows(self, x: Tensor, route: Route) -> Tensor:
        rows = {name: at for name, at in route.rows.items() if name in self.lora_A}
        matrices = [self._matrices(name) for name in rows]
        titles = [f"{self.title}, adapter {name!r}" for name in rows]
        return lora_linear_of_rows(x, *self.frozen(), matrices, list(rows.values()), titles)

    def _matrices(self, name: str) -> Adapter:
        """The matrices of an adapter, and what goes with them."""
        a: Any = self.lora_A[name].weight
        b: Any = self.lora_B[name].weight
        dropout: Any = self.lora_dropout[name]
        drops = isinstance(dropout, nn.Dropout) and dropout.training
        return Adapter(a, b, self.scaling[name], dropout.p if drops else 0.0)


def outputs_of(layers: Sequence[nn.Module], x: Tensor) -> tuple[Tensor, ...]:
    """What each of some layers makes of the same tensor, by one operation where that is possible.

    Frozen layers may be among them. Layers are called one by one if one has dropout (each layer has
    a mask of its own), rows that mix `adapters`, or what PEFT's own forward pass serves.
    """
    parts: list[tuple[Any, ...]] = []
    for one in layers:
        layer: Any = one
        if type(layer) is nn.Linear:
            parts.append((layer.weight, layer.bias, None, 1.0, "a frozen layer"))
            continue
        adapter = layer.adapter() if isinstance(one, LoraLinear) else None
        if adapter is None or adapter.dropout:
            return tuple(layer(x) for layer in layers)
        parts.append((*layer.frozen(), adapter[:2], adapter.scale, layer.title))
    *given, titles = zip(*parts, strict=True)
    return lora_linear_grouped(x, *given, layers=titles)


@cache
def _leave(reason: str) -> None:
    _log.info("PEFT's own forward pass serves layers with %s.", reason)


def take_over(model: PeftModel) -> PeftModel:
    """The model, in which ours stand for PEFT's layers; called after every change to its adapters.

    A layer changes its class and keeps all that PEFT gave it. The choice is never saved.
    """
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            kinds: Any = type(module), type(module.base_layer)
            module.__class__ = _ours(*kinds)
        if isinstance(module, MixingLayer):
            module.title = name
    return model


@cache
def _ours(layer: type, base: type) -> type:
    """What stands for a layer of PEFT's over a frozen one; itself if nothing does."""
    if layer is Linear and base in (nn.Linear, Conv1D):
        return LoraLinear
    if layer.__module__ == "peft.tuners.lora.bnb":  # named, since it would import bitsandbytes
        return type(f"Lora{layer.__name__}", (MixingLayer, layer), {"__doc__": layer.__doc__})
    return layer


def plain_of(backbone: PreTrainedModel | PeftModel) -> Any:
    """The model inside PEFT's wrapper, where it has one."""
    return backbone.get_base_model() if isinstance(backbone, PeftModel) else backbone
