"""Banded attention over steps, and the ring of keys and values that a stream of decisions keeps."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn


def band(
    query_step: Int[Tensor, "query"],
    query_position: Int[Tensor, "query"],
    key_step: Int[Tensor, "key"],
    key_position: Int[Tensor, "key"],
    *,
    window: int,
) -> Bool[Tensor, "1 1 query key"]:
    """Who may attend whom: token i sees token j if j is not later and `step(i) - step(j) < window`.

    Source: DESIGN decision 1. Padding sits behind every real token of its row, so that causality
    hides it, and one mask serves the whole batch. Empty slots of a ring have position -1.
    """
    near = query_step[:, None] - key_step[None, :] < window
    past = (key_position[None, :] <= query_position[:, None]) & (key_position[None, :] >= 0)
    return (near & past)[None, None]


class Ring:
    """Keys and values of the last tokens of a stream, in a fixed number of slots.

    The oldest tokens are overwritten. Attention does not depend on the order of its keys, so slots
    need no shifting; `step` and `position` say what each slot holds, `target` where the coming pass
    writes. The library's own caches are not used, since they evict by rules of their own.
    """

    is_compileable = False

    def __init__(self, *, slots: int, device: torch.device) -> None:
        self.slots = slots
        self.step = torch.zeros(slots, dtype=torch.long, device=device)
        self.position = torch.full((slots,), -1, dtype=torch.long, device=device)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._next = 0
        self.target: Int[Tensor, "token"] | slice = slice(0, 0)

    def clear(self) -> None:
        """Forget every token; the memory stays."""
        self.position.fill_(-1)
        self._next = 0

    def place(self, step: Int[Tensor, "token"], position: Int[Tensor, "token"]) -> None:
        """Choose the slots that the tokens of the coming pass go to."""
        start, count = self._next, len(step)
        if start + count <= self.slots:
            self.target = slice(start, start + count)
        else:
            self.target = torch.arange(start, start + count, device=step.device) % self.slots
        self.step[self.target] = step
        self.position[self.target] = position
        self._next = (start + count) % self.slots

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values; called by the backbone's attention layers."""
        if layer_idx == len(self._keys):
            shape = (*keys.shape[:2], self.slots, keys.shape[3])
            self._keys.append(keys.new_zeros(shape))
            self._values.append(values.new_zeros((*shape[:3], values.shape[3])))
        stored_keys, stored_values = self._keys[layer_idx], self._values[layer_idx]
        stored_keys[:, :, self.target] = keys
        stored_values[:, :, self.target] = values
        return stored_keys, stored_values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens are held; part of the interface that backbones expect of a cache."""
        return int((self.position >= 0).sum())


def cache_argument(backbone: nn.Module) -> str:
    """What the backbone calls its cache: transformers renamed `past_key_values` in 5.24."""
    plain: Any = backbone
    if hasattr(plain, "get_base_model"):
        plain = plain.get_base_model()
    names = inspect.signature(plain.forward).parameters
    return "cache" if "cache" in names else "past_key_values"
