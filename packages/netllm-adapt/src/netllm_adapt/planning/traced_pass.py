"""What one pass through a backbone takes, found by running it on tensors without memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from netllm_adapt.llama.training import library_training, uncovered_training
from netllm_adapt.model.base import BackboneInput
from netllm_adapt.training.gradient_checkpointing import recomputing


class PassCost(NamedTuple):
    """Of one forward and one backward pass."""

    bytes: int
    """At its peak, beside weights, gradients and the tokens that come in."""
    flops: int
    """Of matrix products and attention, a multiplication and an addition counted as two."""


def traced_pass(
    backbone: nn.Module, given: BackboneInput, *, on_cpu: bool, again: bool
) -> PassCost:
    """What a training pass takes: every operation is run, and none computes or has memory.

    Args:
        backbone: on torch's meta device, with adapter.
        given: its rows; of the tokens nothing but shape and dtype matters.
        on_cpu: by the lean pass where it covers the backbone; else by the library's modules.
        again: with gradient checkpointing.
    """
    tokens = torch.zeros(given.tokens.shape, dtype=given.tokens.dtype, device="meta")
    given = given._replace(tokens=tokens.requires_grad_())
    backbone.train()
    held: list[Tensor] = [tokens, *backbone.parameters(), *backbone.buffers()]
    for learned in held:
        if learned.requires_grad:
            learned.grad = torch.zeros_like(learned)
            held = [*held, learned.grad]
    live = _Counter(held)
    path = nullcontext() if on_cpu else library_training()
    passes = recomputing(backbone) if again else nullcontext()
    with path, passes, _without_memory(on_cpu=on_cpu), live:
        if uncovered_training(backbone) is not None:  # else the mask's own numbers are looked at
            given = given._replace(mask=given.mask.to("meta"), position=given.position.to("meta"))
        given.through(backbone).float().sum().backward()
    return PassCost(live.peak, live.flops)


_aten = torch.ops.aten
_FLOPS = flop_registry | {
    _aten.addmm_: flop_registry[_aten.addmm],
    _aten.baddbmm_: flop_registry[_aten.baddbmm],
    _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        _aten._scaled_dot_product_flash_attention
    ],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _aten._scaled_dot_product_flash_attention_backward
    ],
}
"""What torch knows the operations of, and what it leaves out."""


class _Counter(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, while these live, and the flops."""

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.now = self.peak = self.flops = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet(one.untyped_storage() for one in held)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        made = function(*args, **kwargs)
        if (formula := _FLOPS.get(function._overloadpacket)) is not None:
            self.flops += formula(*args, **kwargs, out_val=made)
        for one in tree_leaves(made):
            if isinstance(one, Tensor):
                self._note(one.untyped_storage())
        return made

    def _note(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, storage.nbytes())

    def _gone(self, size: int) -> None:
        self.now -= size


@contextmanager
def _without_memory(*, on_cpu: bool) -> Iterator[None]:
    """Two functions of torch that treat tensors without memory as they treat others.

    Attention keeps no probabilities then, on CPUs only without dropout; and autocast may be asked
    for, as transformers before 5 does. A mode that torch offers for such a change is off in a
    backward pass, where gradient checkpointing repeats the forward one.
    """
    attention, autocast = functional.scaled_dot_product_attention, torch.autocast

    def attend(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        if query.device.type != "meta" or (on_cpu and options.get("dropout_p")):
            return attention(query, key, value, **options)
        mask, scale = options.get("attn_mask"), options.get("scale")
        if mask is not None and mask.dtype == torch.bool:
            mask = mask.to(query.dtype)
        fused: Any = _aten._scaled_dot_product_flash_attention_for_cpu
        result: Tensor = fused(query, key, value, attn_mask=mask, scale=scale)[0]
        return result

    def cast(device_type: str, *options: Any, **named: Any) -> Any:
        return nullcontext() if device_type == "meta" else autocast(device_type, *options, **named)

    changed: Any = torch
    functional.scaled_dot_product_attention = attend  # type: ignore[assignment, unused-ignore]
    changed.autocast = cast
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = attention
        changed.autocast = autocast
