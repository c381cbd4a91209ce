"""The keys and values that a stream of decisions remembers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from netllm_adapt.attention import band

_GROWTH = 32
"""Slots that a ring grows by, at least."""


def slots_for(tokens: int) -> int:
    """Slots of a row that holds so many tokens at most."""
    return 1 + _grown(tokens)


def _grown(slots: int) -> int:
    """What a ring grows by to have so many more slots."""
    return -(-slots // _GROWTH) * _GROWTH


class Ring:
    """Keys and values of the last tokens of a stream, in slots that are used again.

    The slots of tokens that nobody sees any more are overwritten; where they do not suffice, more
    are made. Attention does not depend on the order of its keys, so slots need no shifting; `step`
    and `position` say what each slot of each row holds. The backbone's own modules and the lean
    pass write and read the same ring, by `update`. The library's own caches are not used, since
    they evict by rules of their own.

    Args:
        batch: number of rows.
        device: where it lies.
        runs: write neighbouring slots and rows as runs, without lists of them; not for a pass that
            is recorded, whose lists are copied to where it reads them.
    """

    is_compileable = False

    def __init__(self, *, batch: int, device: torch.device, runs: bool = True) -> None:
        # Slot 0 is where padding goes; it is never seen.
        self.step = torch.zeros(batch, 1, dtype=torch.long, device=device)
        self.position = torch.full((batch, 1), -1, dtype=torch.long, device=device)
        self._layers: list[tuple[Tensor, Tensor]] = []
        """Keys and values of each layer, (row, head, slot, dim)."""
        self._runs = runs
        self._held = 0
        self.version = 0
        """Changes when keys and values come to lie elsewhere."""
        self.target: Int[Tensor, "row token"] | slice = slice(0, 0)
        """The slots that the coming pass writes."""
        self.rows: Int[Tensor, "row"] | slice = slice(None)
        """The rows that take part in the coming pass."""

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
        self._layers = [(keys[rows], values[rows]) for keys, values in self._layers]
        self.version += 1

    def add(self, rows: int) -> None:
        """So many more rows, with nothing in them."""
        self.step = F.pad(self.step, (0, 0, 0, rows))
        self.position = F.pad(self.position, (0, 0, 0, rows), value=-1)
        self.version += 1

    def admit(
        self,
        step: Int[Tensor, "row token"],
        position: Int[Tensor, "row token"],
        *,
        window: int,
        rows: Sequence[int] | None = None,
    ) -> Bool[Tensor, "row 1 token slot"]:
        """Choose the slots that the tokens of the coming pass go to; which slots each may see.

        Padding has position -1 and stands behind the tokens of its row. It sees slot 0, for
        attention to nothing at all is undefined.

        Args:
            step: of each token.
            position: of each token.
            window: how many steps a token sees.
            rows: those that take part in the coming pass, in the tokens' order; all if None.
        """
        chosen = self.rows = _chosen(rows, self.step.device, runs=self._runs)
        real = position >= 0
        oldest = step.masked_fill(~real, torch.iinfo(torch.long).max).amin(1, keepdim=True)
        taken = (self.position[chosen] >= 0) & (oldest - self.step[chosen] < window)
        taken[:, 0] = True
        self._held = int((taken.sum(1) + real.sum(1)).amax()) - 1
        missing = max(self._held + 1, step.shape[1]) - self.slots
        if missing > 0:
            more = _grown(missing)
            self.version += 1
            self.step, taken = F.pad(self.step, (0, more)), F.pad(taken, (0, more))
            self.position = F.pad(self.position, (0, more), value=-1)
        free = taken.to(torch.uint8).argsort(dim=1, stable=True)[:, : step.shape[1]]
        target = free * real
        steps = self.step[chosen].scatter_(1, target, step)
        positions = self.position[chosen].scatter_(1, target, position)
        positions[:, 0] = -1
        if isinstance(chosen, Tensor):  # a run of rows is written where it lies
            self.step[chosen], self.position[chosen] = steps, positions
        self.target = _as_slice(target) if self._runs else target
        mask = band(step, position, steps, positions, window=window)
        mask[..., 0] |= ~real[:, None]
        return mask

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, once the new ones are in their slots.

        The backbone's attention layers call it, with whatever else a cache of the library is given.
        """
        if layer_idx == len(self._layers):
            self._layers.append((keys[:0, :, :0], values[:0, :, :0]))
        held = self._layers[layer_idx]
        if held[0].shape[::2] != self.step.shape:
            held = self._layers[layer_idx] = (self._grown(held[0]), self._grown(held[1]))
        rows, target = self.rows, self.target
        if isinstance(rows, Tensor):
            row, slots = rows[:, None], target
            if isinstance(slots, slice):
                slots = torch.arange(slots.start, slots.stop, device=keys.device)[None]
            held[0].transpose(1, 2)[row, slots] = keys.transpose(1, 2)
            held[1].transpose(1, 2)[row, slots] = values.transpose(1, 2)
            return held[0][rows], held[1][rows]
        seen = held[0][rows], held[1][rows]
        if isinstance(target, slice):
            seen[0].narrow(2, target.start, keys.shape[2]).copy_(keys)
            seen[1].narrow(2, target.start, keys.shape[2]).copy_(values)
        else:
            row = torch.arange(len(keys), device=keys.device)[:, None]
            seen[0].transpose(1, 2)[row, target] = keys.transpose(1, 2)
            seen[1].transpose(1, 2)[row, target] = values.transpose(1, 2)
        return seen

    def _grown(self, held: Tensor) -> Tensor:
        """The same with zeros in further rows and slots."""
        rows, slots = self.step.shape
        more = (0, 0, 0, slots - held.shape[2], 0, 0, 0, rows - len(held))
        return F.pad(held, more)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens a row of the coming pass sees at most, its own among them.

        Part of the interface that backbones expect of a cache.
        """
        return self._held


def _as_slice(target: Int[Tensor, "row token"]) -> Int[Tensor, "row token"] | slice:
    """Slots that are the same run in every row as a slice, which is written faster."""
    start, count = int(target[0, 0]), target.shape[1]
    run = torch.arange(start, start + count, device=target.device)
    return slice(start, start + count) if bool((target == run).all()) else target


def _chosen(
    rows: Sequence[int] | None, device: torch.device, *, runs: bool
) -> Int[Tensor, "row"] | slice:
    """Rows that follow one another as a slice, which needs no copy of them."""
    if rows is None:
        return slice(None)
    if runs and [*rows] == [*range(rows[0], rows[0] + len(rows))]:
        return slice(rows[0], rows[0] + len(rows))
    return torch.tensor(rows, device=device)
