"""The same passes by Triton kernels, for GPUs.

The low-rank product is the epilogue of the frozen one. So it is for a batch that mixes adapters:
two large products for all of them, each tile with its adapter's matrices; the small products are
launched for each adapter on its own rows.

Source: the plan in LoRAFusion (Zhu et al., EuroSys 2026) of splitting LoRA's graph at S; segments
as in S-LoRA (Sheng et al., MLSys 2024).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from netllm_adapt.lora.layer_group import Matrices, Part
from netllm_adapt.lora.triton_launch import HALVES, gemm, grad_a, grads_of_small, installed, shrink

_SMALLEST = 512
"""Rows below which launching four kernels costs more than the traffic that they save."""


def covers(x: Tensor, weight: Tensor, a: Tensor) -> bool:
    """Half precision on a GPU that has bfloat16, sides in sixteens, enough rows, ranks to 128."""
    return (
        x.is_cuda
        and installed()
        and torch.cuda.get_device_capability(x.device) >= (8, 0)
        and x.dtype in HALVES
        and x.numel() >= _SMALLEST * x.shape[-1]
        and 1 in weight.stride()
        and weight.shape[0] % 16 == weight.shape[1] % 16 == 0
        and a.shape[0] <= 128
    )


def takes(parts: Sequence[Part]) -> bool:
    """Whether the parts are one for each layer, or rows that lie together, without dropout."""
    if all(part.rows is None for part in parts):
        return 0 < len({part.layer for part in parts}) == len(parts)
    return all(isinstance(part.rows, slice) and not part.dropout for part in parts)


def forward(
    x: Tensor, biases: Sequence[Tensor | None], matrices: Matrices, parts: Sequence[Part]
) -> tuple[list[Tensor], list[Tensor]]:
    """``x·Wᵀ + bias + S·Bᵀ`` of every layer, and S of every one that has parts."""
    rows, ys, smalls = _matrix(x), [], []
    for i, (weight, bias) in enumerate(zip(matrices.weights, biases, strict=True)):
        pairs = _pairs(i, x, matrices, parts)
        if pairs is None:
            ys.append(F.linear(x, weight, bias))
            continue
        with torch.cuda.device_of(x):
            small = pairs.room(rows)
            for number, at, a in zip(pairs.numbers, pairs.spans, pairs.a, strict=True):
                part = parts[number]
                shrink(rows[at], a, part.factor, part.dropout, part.seed, out=small[at])
            y = gemm(rows, weight.t(), small, pairs.for_gemm(pairs.b).mT, bias, ids=pairs.ids)
        ys.append(y.view(*x.shape[:-1], y.shape[-1]))
        smalls.append(small)
    return ys, smalls


def backward(
    grads: Sequence[Tensor | None],
    x: Tensor,
    matrices: Matrices,
    parts: Sequence[Part],
    smalls: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients asked for of x, all biases, all weights, all A and all B, in this order.

    Those of frozen layers are torch's.
    """
    layers, count, rows, left = len(grads), len(parts), _matrix(x), list(smalls)
    found: list[Tensor | None] = [None] * len(needs)
    for i, (grad, weight) in enumerate(zip(grads, matrices.weights, strict=True)):
        pairs = _pairs(i, x, matrices, parts)
        small = None if pairs is None else left.pop(0)
        if grad is None:
            continue
        dy, dx = _matrix(grad), None
        if pairs is None or small is None:
            dx = dy @ weight if needs[0] else None
        else:
            with torch.cuda.device_of(rows):
                d_small, draw = pairs.room(rows), (0.0, 0)
                for k, (number, at) in enumerate(zip(pairs.numbers, pairs.spans, strict=True)):
                    part, a, b = parts[number], matrices.a[number], matrices.b[number]
                    of_a, draw = 1 + 2 * layers + number, (part.dropout, part.seed)
                    own, db = grads_of_small(dy[at], pairs.b[k], small[at], part.factor)
                    if pairs.ids is None:
                        d_small = own
                    else:
                        d_small[at] = own
                    if needs[of_a]:
                        found[of_a] = grad_a(own, rows[at], pairs.a[k], *draw)[: len(a)].to(a.dtype)
                    found[of_a + count] = db[:, : len(a)].to(b.dtype)
                if needs[0]:
                    a = pairs.for_gemm(pairs.a)
                    dx = gemm(dy, weight, d_small, a, None, *draw, ids=pairs.ids)
        found[0] = dx if found[0] is None or dx is None else found[0].add_(dx)
        found[1 + i] = dy.sum(0) if needs[1 + i] else None
        found[1 + layers + i] = dy.t() @ rows if needs[1 + layers + i] else None
    found[0] = None if found[0] is None else found[0].view(x.shape)
    return found


class _Pairs(NamedTuple):
    """The pairs of matrices of one layer, as the kernels read them."""

    numbers: list[int]
    """Of their parts."""
    spans: list[slice]
    """Their rows of the input as a matrix."""
    a: Tensor
    """(pair, rank, K), the ranks padded to the greatest."""
    b: Tensor
    """(pair, N, rank)."""
    ids: Tensor | None
    """The number of each row's pair; None if one has all rows."""

    def room(self, rows: Tensor) -> Tensor:
        """For S or its gradient; zero where some rows have no pair."""
        shape = len(rows), self.a.shape[1]
        return rows.new_empty(shape) if self.ids is None else rows.new_zeros(shape)

    def for_gemm(self, matrices: Tensor) -> Tensor:
        """As `gemm` reads them: a matrix if there is one."""
        return matrices[0] if self.ids is None else matrices


def _pairs(layer: int, x: Tensor, matrices: Matrices, parts: Sequence[Part]) -> _Pairs | None:
    """Of a layer; None if it has none."""
    numbers = [i for i, part in enumerate(parts) if part.layer == layer]
    if not numbers:
        return None
    all_a = [matrices.a[i].to(x.dtype) for i in numbers]
    all_b = [matrices.b[i].to(x.dtype) for i in numbers]
    if parts[numbers[0]].rows is None:
        (a,), (b,) = all_a, all_b
        return _Pairs(numbers, [slice(None)], a.contiguous()[None], b.contiguous()[None], None)
    tokens = x[:1].numel() // x.shape[-1]
    own: list[Any] = [parts[i].rows for i in numbers]
    ends = tuple((rows.start * tokens, rows.stop * tokens) for rows in own)
    rank = -(-max(map(len, all_a)) // 16) * 16  # others would spill registers
    a = torch.stack([F.pad(a, (0, 0, 0, rank - len(a))) for a in all_a])
    b = torch.stack([F.pad(b, (0, rank - b.shape[1])) for b in all_b])
    ids = _ids_of(len(x) * tokens, ends, x.device)
    return _Pairs(numbers, [slice(*span) for span in ends], a, b, ids)


@lru_cache(maxsize=16)
def _ids_of(count: int, spans: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """The number of each row's pair, the same for every layer of a pass; without one, any."""
    ids = torch.zeros(count, dtype=torch.int32, device=device)
    for number, (start, stop) in enumerate(spans):
        ids[start:stop] = number
    return ids


def _matrix(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1]).contiguous()
