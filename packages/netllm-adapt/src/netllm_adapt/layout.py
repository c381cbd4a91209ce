"""Ragged and other fields as tensors, and where the tokens of ragged steps lie in rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from netllm_adapt.arrays import as_tensor
from netllm_adapt.ragged import Ragged


def tensors(field: np.ndarray | Ragged) -> Tensor | Ragged:
    """A field from outside as tensors."""
    if isinstance(field, Ragged):
        return Ragged(as_tensor(field.values), as_tensor(field.ptr))
    return as_tensor(field)


def stack(parts: Sequence[np.ndarray | Ragged], steps: int) -> Tensor | Ragged:
    """Rows of consecutive steps as one batch, each padded at its end to `steps` steps.

    Padding is zeros; of a ragged field, steps without values.
    """
    if isinstance(parts[0], Ragged):
        counts = np.zeros((len(parts), steps), np.int64)
        for row, (_, ptr) in zip(counts, parts, strict=True):
            row[: len(ptr) - 1] = np.diff(ptr)
        ptr = np.concatenate([[0], counts.ravel().cumsum()])
        return tensors(Ragged(np.concatenate([values for values, _ in parts]), ptr))
    out = np.zeros((len(parts), steps, *parts[0].shape[1:]), dtype=parts[0].dtype)
    for row, array in zip(out, parts, strict=True):
        row[: len(array)] = array
    return as_tensor(out)


def select(
    observation: Mapping[str, Tensor | Ragged], rows: Int[Tensor, "row"]
) -> dict[str, Tensor | Ragged]:
    """Some rows of a batch that holds one step per row."""
    return {name: _select(field, rows) for name, field in observation.items()}


def _select(field: Tensor | Ragged, rows: Int[Tensor, "row"]) -> Tensor | Ragged:
    if not isinstance(field, Ragged):
        return field[rows]
    ptr = field.ptr.tolist()
    parts = [field.values[ptr[row] : ptr[row + 1]] for row in rows.tolist()]
    counts = (field.ptr[1:] - field.ptr[:-1])[rows]
    return Ragged(torch.cat(parts), torch.cat([counts.new_zeros(1), counts.cumsum(0)]))


class Layout:
    """Where the tokens of ragged steps lie in rows of one length.

    A step is its observation's tokens, then its action's one; a step without tokens is padding and
    takes no place. Steps follow one another, so that padding is at the end of a row.

    Args:
        ptr: of the observations' tokens, with one step per entry of (batch, step).
        batch: number of rows.
    """

    def __init__(self, ptr: Int[Tensor, "offset"], *, batch: int) -> None:
        counts = (ptr[1:] - ptr[:-1]).view(batch, -1)
        sizes = counts + (counts > 0)
        begin = sizes.cumsum(1) - sizes
        self.length = int(sizes.sum(1).max())
        begin = begin + self.length * torch.arange(batch, device=ptr.device)[:, None]
        flat = counts.flatten()
        step = torch.arange(len(flat), device=ptr.device).repeat_interleave(flat)
        offset = torch.arange(len(step), device=ptr.device) - ptr[step]
        self.observed = begin.flatten()[step] + offset
        self.acts = flat > 0
        self.acted = (begin + counts).flatten()[self.acts]
        self.step = ptr.new_full((batch * self.length,), -1)
        self.step[self.observed] = step % counts.shape[1]
        self.step[self.acted] = self.acts.nonzero()[:, 0] % counts.shape[1]
        self.step = self.step.view(batch, self.length)

    def place(self, observed: Tensor, acted: Tensor) -> Tensor:
        """The rows (batch, token, width) from the tokens of observations and of actions."""
        batch, length = self.step.shape
        rows = observed.new_zeros(batch * length, observed.shape[1])
        rows[self.observed] = observed
        rows[self.acted] = acted.reshape(-1, acted.shape[-1])[self.acts].to(rows.dtype)
        return rows.view(batch, length, -1)

    def read(self, hidden: Tensor) -> Tensor:
        """The observations' tokens of such rows."""
        return hidden.flatten(0, 1)[self.observed]
