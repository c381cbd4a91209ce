"""Banded attention over steps, and the ring of keys and values that a stream of decisions keeps."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor, nn

_GROWTH = 32
"""Slots that a ring grows by, at least."""
_ATTENDING = {"full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers that do as the mask says; the library's own masks are not made if it is given."""
_BY_SLOT = {"gpt_neo"}
"""Kinds that hide keys by the slots that they lie in, whatever the mask says."""


def band(
    query_step: Int[Tensor, "row query"],
    query_position: Int[Tensor, "#row query"],
    key_step: Int[Tensor, "row key"],
    key_position: Int[Tensor, "#row key"],
    *,
    window: int,
) -> Bool[Tensor, "row 1 query key"]:
    """Who may attend whom: token i sees token j if j is not later and `step(i) - step(j) < window`.

    Where all rows are cut alike, one row serves the whole batch.

    Source: DESIGN decision 1. Padding sits behind every real token of its row, so that causality
    hides it. Empty slots of a ring have position -1.
    """
    near = query_step[:, :, None] - key_step[:, None] < window
    past = (key_position[:, None] <= query_position[:, :, None]) & (key_position[:, None] >= 0)
    return (near & past)[:, None]


def as_told(
    backbone: nn.Module, mask: Bool[Tensor, "#row 1 query key"], dtype: torch.dtype
) -> Tensor:
    """The mask as the backbone's attention takes it.

    ``sdpa`` reads truth values; ``eager`` adds the mask to its scores, in which True would be a
    score of 1 and hide nothing.

    Raises:
        ValueError: if its attention is another, which takes no mask of its caller's.
    """
    config: Any = backbone.config
    way = config._attn_implementation
    if way == "sdpa":
        return mask
    if way != "eager":
        raise ValueError(
            f"The backbone's attention must be 'sdpa' or 'eager', got {way!r}, which takes no mask "
            "of who may attend whom. Call `set_attn_implementation` on it, with 'sdpa' or 'eager'."
        )
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, torch.finfo(dtype).min
    )


def check_attention(backbone: nn.Module) -> None:
    """Refuse a backbone that would not follow a mask and positions, or keep keys in a `Ring`.

    Raises:
        ValueError: with the reason.
    """
    config: Any = backbone.config
    missing = {"inputs_embeds", "attention_mask", "position_ids"} - _arguments(backbone)
    others = {*(getattr(config, "layer_types", None) or ())} - _ATTENDING
    reason = None
    if getattr(config, "is_encoder_decoder", False):
        reason = "it has an encoder beside its decoder"
    elif getattr(backbone, "_is_stateful", False):
        reason = "it has recurrent layers, which see all that came before"
    elif others:
        reason = f"it has layers of other kinds, {sorted(others)}"
    elif missing:
        reason = f"it takes no {' and no '.join(f'`{name}`' for name in sorted(missing))}"
    elif (
        getattr(config, "alibi", False)
        or config.model_type in _BY_SLOT
        or (config._attn_implementation == "eager" and _hides_slots(backbone))
    ):
        reason = "it reads positions from the order in which keys are kept"
    if reason is not None:
        raise ValueError(
            f"A backbone must attend under any mask, at any positions; {config.model_type!r} "
            f"cannot: {reason}. Take another kind, such as llama, qwen3, gemma3, gpt2 or opt."
        )


def _hides_slots(backbone: nn.Module) -> bool:
    """Whether it is GPT-2 of transformers before 5, whose eager attention had a mask of its own."""
    config: Any = backbone.config
    names = (name for name, _ in backbone.named_buffers())
    return config.model_type == "gpt2" and any(name.endswith("attn.bias") for name in names)


class Ring:
    """Keys and values of the last tokens of a stream, in slots that are used again.

    The slots of tokens that nobody sees any more are overwritten; where they do not suffice, more
    are made. Attention does not depend on the order of its keys, so slots need no shifting; `step`
    and `position` say what each slot of each row holds, `target` where the coming pass writes. The
    library's own caches are not used, since they evict by rules of their own.
    """

    is_compileable = False

    def __init__(self, *, batch: int, device: torch.device) -> None:
        # Slot 0 is where padding goes; it is never seen.
        self.step = torch.zeros(batch, 1, dtype=torch.long, device=device)
        self.position = torch.full((batch, 1), -1, dtype=torch.long, device=device)
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self.target: Int[Tensor, "row token"] | slice = slice(0, 0)

    @property
    def slots(self) -> int:
        """Slots of a row."""
        return self.step.shape[1]

    def clear(self, row: int) -> None:
        """Forget every token of a row; the memory stays."""
        self.position[row] = -1

    def keep(self, rows: Int[Tensor, "row"]) -> None:
        """Forget all other rows."""
        self.step, self.position = self.step[rows], self.position[rows]
        self._keys = [kept[rows] for kept in self._keys]
        self._values = [kept[rows] for kept in self._values]

    def fill(self, seen: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take over the keys and values of every layer, in the same slots."""
        keys, values = zip(*seen, strict=True)
        self._keys, self._values = list(keys), list(values)

    def place(
        self, step: Int[Tensor, "row token"], position: Int[Tensor, "row token"], *, window: int
    ) -> None:
        """Choose the slots that the tokens of the coming pass go to.

        Padding has position -1 and stands behind the tokens of its row.
        """
        real = position >= 0
        oldest = step.masked_fill(~real, torch.iinfo(torch.long).max).amin(1, keepdim=True)
        taken = (self.position >= 0) & (oldest - self.step < window)
        taken[:, 0] = True
        missing = int((taken.sum(1) + real.sum(1)).amax()) - self.slots
        if missing > 0:
            more = -(-missing // _GROWTH) * _GROWTH
            self.step, taken = F.pad(self.step, (0, more)), F.pad(taken, (0, more))
            self.position = F.pad(self.position, (0, more), value=-1)
        free = taken.to(torch.uint8).argsort(dim=1, stable=True)[:, : step.shape[1]]
        target = free * real
        self.step.scatter_(1, target, step)
        self.position.scatter_(1, target, position)
        self.position[:, 0] = -1
        self.target = _as_slice(target)

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one layer's new keys and values; called by the backbone's attention layers."""
        if layer_idx == len(self._keys):
            self._keys.append(keys.new_zeros(*keys.shape[:2], 0, keys.shape[3]))
            self._values.append(values.new_zeros(*values.shape[:2], 0, values.shape[3]))
        for kept, new in ((self._keys, keys), (self._values, values)):
            kept[layer_idx] = grown(kept[layer_idx], self.slots, dim=2)
            write(kept[layer_idx], new, self.target, dim=2)
        return self._keys[layer_idx], self._values[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens are held; part of the interface that backbones expect of a cache."""
        return int((self.position >= 0).sum(1).amax())


def _as_slice(target: Int[Tensor, "row token"]) -> Int[Tensor, "row token"] | slice:
    """Slots that are the same run in every row as a slice, which is written faster."""
    start, count = int(target[0, 0]), target.shape[1]
    run = torch.arange(start, start + count, device=target.device)
    return slice(start, start + count) if bool((target == run).all()) else target


def grown(kept: Tensor, slots: int, *, dim: int) -> Tensor:
    """The same with zeros behind, to `slots` of them along `dim`."""
    missing = slots - kept.shape[dim]
    if missing <= 0:
        return kept
    shape = list(kept.shape)
    shape[dim] = missing
    return torch.cat([kept, kept.new_zeros(shape)], dim=dim)


def write(kept: Tensor, new: Tensor, target: Int[Tensor, "row token"] | slice, *, dim: int) -> None:
    """Put new entries into their slots, which lie along `dim`; rows are along the first axis."""
    if isinstance(target, slice):
        kept.narrow(dim, target.start, target.stop - target.start).copy_(new)
        return
    row = torch.arange(len(kept), device=kept.device)[:, None]
    kept.movedim(dim, 1)[row, target] = new.movedim(dim, 1)


def cache_argument(backbone: nn.Module) -> str:
    """What the backbone calls its cache: transformers renamed `past_key_values` in 5.24."""
    return "cache" if "cache" in _arguments(backbone) else "past_key_values"


def _arguments(backbone: nn.Module) -> set[str]:
    """The names of what a backbone takes, in PEFT's wrapper or not."""
    plain: Any = backbone
    if hasattr(plain, "get_base_model"):
        plain = plain.get_base_model()
    return set(inspect.signature(plain.forward).parameters)
