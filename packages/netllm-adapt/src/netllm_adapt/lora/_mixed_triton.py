"""The operation for mixed batches by the Triton kernels: two large products for all adapters.

The low-rank product of each tile's adapter is the epilogue of the frozen one, as it is for a single
adapter. The small products are launched for each adapter on its own rows, which as a whole are no
more traffic.

Source: segments as in S-LoRA (Sheng et al., MLSys 2024), for the epilogue of KERNELS.md.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from netllm_adapt.lora._backends import backend_for
from netllm_adapt.lora._triton import gemm, grad_a, grads_of_small, shrink


class Part(NamedTuple):
    """The rows of one adapter, which lie together, and the factor of its S."""

    start: int
    stop: int
    factor: float

    @property
    def rows(self) -> slice:
        """Of the matrix."""
        return slice(self.start, self.stop)


def serves(x: Tensor, weight: Tensor, shrinks: Sequence[Tensor]) -> bool:
    """Whether the kernels are the back end of these adapters, of which there must be one."""
    return len(shrinks) > 0 and all(backend_for(x, weight, a).name == "triton" for a in shrinks)


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    parts: Sequence[Part],
    shrinks: Sequence[Tensor],
    expands: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """``x (M, K)·Wᵀ + bias + S·Bᵀ`` with each row's own B; S (M, padded rank), zero without one."""
    with torch.cuda.device_of(x):
        low_a, low_b = _stacked(shrinks, expands, x.dtype)
        small = x.new_zeros(len(x), low_a.shape[1])
        for part, a in zip(parts, low_a, strict=True):
            shrink(x[part.rows], a, part.factor, 0.0, 0, out=small[part.rows])
        return gemm(x, weight.t(), small, low_b.mT, bias, ids=_ids(x, parts)), small


def backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    parts: Sequence[Part],
    shrinks: Sequence[Tensor],
    expands: Sequence[Tensor],
    small: Tensor,
    for_x: bool,
    needs: Sequence[bool],
) -> tuple[Tensor | None, list[Tensor | None]]:
    """The gradients of x, and of each part's A and B in turn, None where they are not asked for."""
    grads: list[Tensor | None] = []
    with torch.cuda.device_of(x):
        low_a, low_b = _stacked(shrinks, expands, x.dtype)
        d_small = torch.zeros_like(small)
        for i, (part, a, b) in enumerate(zip(parts, shrinks, expands, strict=True)):
            for_a, for_b = needs[2 * i : 2 * i + 2]
            at, da, db = part.rows, None, None
            if for_x or for_a or for_b:
                d_small[at], db = grads_of_small(dy[at], low_b[i], small[at], part.factor)
            if for_a:
                da = grad_a(d_small[at], x[at], low_a[i], 0.0, 0)[: len(a)].to(a.dtype)
            grads += [da, db[:, : len(a)].to(b.dtype) if for_b and db is not None else None]
        dx = gemm(dy, weight, d_small, low_a, None, ids=_ids(x, parts)) if for_x else None
    return dx, grads


def _stacked(
    shrinks: Sequence[Tensor], expands: Sequence[Tensor], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """All A (adapter, rank, K) and all B (adapter, N, rank), of the greatest rank in sixteens.

    Other ranks would spill registers.
    """
    rank = -(-max(map(len, shrinks)) // 16) * 16
    return (
        torch.stack([F.pad(a.to(dtype), (0, 0, 0, rank - len(a))) for a in shrinks]),
        torch.stack([F.pad(b.to(dtype), (0, rank - b.shape[1])) for b in expands]),
    )


def _ids(x: Tensor, parts: Sequence[Part]) -> Tensor:
    """The number of each row's part; of rows without one any will do, their S is zero."""
    return _ids_of(len(x), tuple((p.start, p.stop) for p in parts), x.device)


@lru_cache(maxsize=16)
def _ids_of(count: int, spans: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """The same for every layer of a pass, hence kept."""
    ids = torch.zeros(count, dtype=torch.int32, device=device)
    for number, (start, stop) in enumerate(spans):
        ids[start:stop] = number
    return ids
