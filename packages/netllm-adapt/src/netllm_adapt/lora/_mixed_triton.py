"""The operation for mixed batches by the Triton kernels: two large products for all adapters.

The low-rank product of each tile's adapter is the epilogue of the frozen one, as it is for a single
adapter. The small products are launched for each adapter on its own rows, which as a whole are no
more traffic.

Source: segments as in S-LoRA (Sheng et al., MLSys 2024), for the epilogue of KERNELS.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from netllm_adapt.lora._backends import backend_for
from netllm_adapt.lora._triton import gemm, grad_a, grads_of_small, shrink


class Part(NamedTuple):
    """One adapter, in the dtype of the rows, and the rows of it, which lie together."""

    rows: slice
    factor: float
    a: Tensor
    b: Tensor


def serves(x: Tensor, weight: Tensor, shrinks: Sequence[Tensor]) -> bool:
    """Whether the kernels are the back end of these adapters, of which there must be one."""
    return len(shrinks) > 0 and all(backend_for(x, weight, a).name == "triton" for a in shrinks)


def part_of(x: Tensor, rows: slice, factor: float, a: Tensor, b: Tensor) -> Part:
    """Of an adapter with so many rows of ``x (rows, …, inputs)``, as rows of the matrix."""
    tokens = x[:1].numel() // x.shape[-1]
    at = slice(rows.start * tokens, rows.stop * tokens)
    return Part(at, factor, a.to(x.dtype).contiguous(), b.to(x.dtype).contiguous())


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, parts: Sequence[Part]
) -> tuple[Tensor, list[Tensor]]:
    """``x (M, K)·Wᵀ + bias + S·Bᵀ`` with each row's own B, and S of each part."""
    with torch.cuda.device_of(x):
        smalls = [shrink(x[p.rows], p.a, p.factor, 0.0, 0) for p in parts]
        rank = _rank(parts)
        low = torch.stack([F.pad(p.b, (0, rank - p.b.shape[1])) for p in parts]).mT
        return gemm(x, weight.t(), _wide(x, smalls, parts), low, bias, ids=_ids(x, parts)), smalls


def backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    parts: Sequence[Part],
    smalls: Sequence[Tensor],
    for_x: bool,
) -> tuple[Tensor | None, list[Tensor]]:
    """The gradients of x, and of the A and B of each part in turn, in float32."""
    grads, d_smalls = [], []
    with torch.cuda.device_of(x):
        for p, small in zip(parts, smalls, strict=True):
            d_small, db = grads_of_small(dy[p.rows], p.b, small, p.factor)
            grads += [grad_a(d_small, x[p.rows], p.a, 0.0, 0), db]
            d_smalls.append(d_small)
        if not for_x:
            return None, grads
        rank = _rank(parts)
        low = torch.stack([F.pad(p.a, (0, 0, 0, rank - len(p.a))) for p in parts])
        return gemm(dy, weight, _wide(dy, d_smalls, parts), low, None, ids=_ids(x, parts)), grads


def _rank(parts: Sequence[Part]) -> int:
    """The greatest rank, as a multiple of 16: others would spill registers."""
    return -(-max(len(p.a) for p in parts) // 16) * 16


def _wide(like: Tensor, smalls: Sequence[Tensor], parts: Sequence[Part]) -> Tensor:
    """The small matrices of all rows, (M, rank); zeros where a row has no adapter."""
    wide = like.new_zeros(len(like), _rank(parts))
    for p, small in zip(parts, smalls, strict=True):
        wide[p.rows, : small.shape[1]] = small
    return wide


def _ids(x: Tensor, parts: Sequence[Part]) -> Tensor:
    """The number of each row's part; of rows without one any will do, their S is zero."""
    ids = torch.zeros(len(x), dtype=torch.int32, device=x.device)
    for number, p in enumerate(parts):
        ids[p.rows] = number
    return ids
