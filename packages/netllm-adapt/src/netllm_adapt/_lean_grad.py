"""The operations of a Llama-type block with their gradients, in few passes over memory.

Autograd through the library's modules runs dozens of passes over large activations. Here each
operation keeps what its gradient needs and computes the rest again, some rows at a time, so that
what lies between stays in the processor's cache. fp32 inside, one rounding at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_CACHED = 2**16
"""Numbers of a matrix that are worked on at once: 256 KiB of float32."""
_QUERIES = 64
"""Query tokens of a block of attention; 48 to 96 are equally fast for bands of 160 tokens."""


class NormOfSum(torch.autograd.Function):
    """``x + y``, and its RMS norm; ``y`` may be None.

    Source: RMS norm (Zhang and Sennrich, NeurIPS 2019), equation 4, and its derivative.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """The sum and its norm."""
        total = x.clone() if y is None else x + y
        normed, wide = torch.empty_like(total), weight.float()
        scale = torch.empty(len(x), 1)
        for some in _chunks(total):
            part = total[some].to(torch.float32, copy=True)
            torch.mean(part.square(), -1, keepdim=True, out=scale[some]).add_(eps).rsqrt_()
            normed[some] = part.mul_(scale[some]).mul_(wide)
        ctx.save_for_backward(total, weight, scale)
        return total, normed

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(
        ctx: Any, grad_total: Tensor, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """The gradient of the sum, for ``x`` and ``y`` alike, and of the weight if it is asked."""
        total, weight, scale = ctx.saved_tensors
        wide = weight.float()
        of_weight = torch.zeros_like(wide) if ctx.needs_input_grad[2] else None
        dx = torch.empty_like(total)
        for some in _chunks(total):
            unit = total[some].to(torch.float32, copy=True).mul_(scale[some])
            dy = grad[some].float()
            if of_weight is not None:
                of_weight += (dy * unit).sum(0)
            dy = dy * wide
            along = (dy * unit).mean(-1, keepdim=True)
            dx[some] = dy.addcmul_(unit, along, value=-1).mul_(scale[some]).add_(grad_total[some])
        y = dx if ctx.needs_input_grad[1] else None
        return dx, y, None if of_weight is None else of_weight.to(weight.dtype), None


def _chunks(x: Tensor) -> Iterator[slice]:
    rows = max(1, _CACHED // x.shape[1])
    return (slice(start, start + rows) for start in range(0, len(x), rows))


class Gated(torch.autograd.Function):
    """``silu(gate)·up``; only the two factors are kept."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """The product."""
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of both factors."""
        gate, up = ctx.saved_tensors
        of_gate = torch.ops.aten.silu_backward(up * grad, gate)
        return of_gate, F.silu(gate).mul_(grad)


class Block(NamedTuple):
    """Query tokens from ``start`` to ``stop``, and all keys that one of them attends."""

    start: int
    stop: int
    first: int
    last: int
    bias: Float[Tensor, "#row 1 1 query key"]
    """0 where a query attends a key, else minus infinity."""


def blocks_of(mask: Bool[Tensor, "#row 1 query key"], dtype: torch.dtype) -> list[Block] | None:
    """The blocks of a mask; None if some token attends nothing."""
    if not bool(mask.any(-1).all()):
        return None
    hidden = ~mask[:, :, None]
    bias = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, -torch.inf)
    anyone = mask[:, 0].any(0)
    found = []
    for start in range(0, len(anyone), _QUERIES):
        stop = min(start + _QUERIES, len(anyone))
        keys = anyone[start:stop].any(0).nonzero()[:, 0]
        first, last = int(keys[0]), int(keys[-1]) + 1
        part = bias[..., start:stop, first:last].contiguous()
        found.append(Block(start, stop, first, last, part))
    return found


class Turn(NamedTuple):
    """Rotary positions: cosines and sines of every token, (token, half of a head)."""

    cos: Tensor
    sin: Tensor

    def times(self, factor: float) -> Turn:
        """Rotation and scaling in one."""
        return Turn(self.cos * factor, self.sin * factor)

    def turn(self, x: Tensor, out: Tensor, start: int = 0) -> Tensor:
        """``x``, (…, token, head), from the token ``start`` on, turned into ``out``."""
        return self._into(x, out, start, 1)

    def back(self, x: Tensor, out: Tensor, start: int = 0) -> Tensor:
        """The transposed of ``turn``, for gradients."""
        return self._into(x, out, start, -1)

    def _into(self, x: Tensor, out: Tensor, start: int, sign: int) -> Tensor:
        tokens, half = x.shape[-2], x.shape[-1] // 2
        cos, sin = (table[start : start + tokens] for table in self)
        (a, b), (left, right) = x.split(half, -1), out.split(half, -1)
        torch.mul(a, cos, out=left).addcmul_(b, sin, value=-sign)
        torch.mul(b, cos, out=right).addcmul_(a, sin, value=sign)
        return out


class Attend(torch.autograd.Function):
    """Banded attention with rotary positions and grouped queries; probabilities are kept.

    Keys that no query of a block attends are left out, which torch's own kernel does for plain
    causal masks alone. Sums over probabilities are products of matrices.

    Source: the blocks are those of FlexAttention (Dong et al., 2024), here for CPUs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Float[Tensor, "row token queries"],
        k: Float[Tensor, "row token keys"],
        v: Float[Tensor, "row token keys"],
        heads: int,
        turns: tuple[Turn, Turn],
        blocks: list[Block],
    ) -> Float[Tensor, "row token queries"]:
        """What every token sees; `heads` are those of keys, `turns` those of queries and keys."""
        rows, tokens, _ = k.shape
        parts = _by_head(q, heads, k.shape[2])  # (row, head, group, token, dim)
        groups, dim = parts.shape[2], parts.shape[4]
        keys = q.new_empty(rows, heads, tokens, dim)
        turns[1].turn(_by_head(k, heads, k.shape[2])[:, :, 0], keys)
        values = _by_head(v, heads, k.shape[2])[:, :, 0].reshape(rows * heads, tokens, dim)
        keys = keys.view(rows * heads, tokens, dim)
        seen, kept = torch.empty_like(q, memory_format=torch.contiguous_format), []
        into = _by_head(seen, heads, k.shape[2])
        for start, stop, first, last, bias in blocks:
            count = stop - start
            query = q.new_empty(rows, heads, groups, count, dim)
            turns[0].turn(parts[..., start:stop, :], query, start)
            query = query.view(rows * heads, groups * count, dim)
            score = torch.bmm(query, keys[:, first:last].transpose(1, 2))
            score.view(rows, heads, groups, count, -1).add_(bias)
            share = torch.softmax(score, -1)
            found = torch.bmm(share, values[:, first:last])
            into[..., start:stop, :] = found.view(rows, heads, groups, count, dim)
            kept += [query, share]
        ctx.save_for_backward(keys, values, *kept)
        ctx.rest = heads, turns, blocks
        return seen

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of queries, keys and values; those of keys are summed transposed."""
        keys, values, *kept = ctx.saved_tensors
        heads, turns, blocks = ctx.rest
        rows, tokens, width = grad.shape
        dim = keys.shape[2]
        narrow = heads * dim
        parts = _by_head(grad, heads, narrow)
        dq = grad.new_empty(rows, tokens, width)
        of_q = _by_head(dq, heads, narrow)
        dk, dv = (grad.new_zeros(len(keys), dim, tokens) for _ in range(2))
        for block, query, share in zip(blocks, kept[::2], kept[1::2], strict=True):
            at, near = slice(block.start, block.stop), slice(block.first, block.last)
            mine = parts[..., at, :].reshape(query.shape)
            dv[..., near] += torch.bmm(mine.transpose(1, 2), share)
            of_share = torch.bmm(mine, values[:, near].transpose(1, 2))
            score = torch._softmax_backward_data(of_share, share, -1, share.dtype)
            dk[..., near] += torch.bmm(query.transpose(1, 2), score)
            back = torch.bmm(score, keys[:, near]).view(parts[..., at, :].shape)
            turns[0].back(back, of_q[..., at, :], block.start)
        of_k, of_v = (grad.new_empty(rows, tokens, narrow) for _ in range(2))
        shape = (rows, heads, dim, tokens)
        turns[1].back(dk.view(shape).transpose(2, 3), _by_head(of_k, heads, narrow)[:, :, 0])
        _by_head(of_v, heads, narrow)[:, :, 0] = dv.view(shape).transpose(2, 3)
        return dq, of_k, of_v, None, None, None


def _by_head(x: Tensor, heads: int, narrow: int) -> Tensor:
    """A view (row, head of keys, group, token, dim) of (row, token, width)."""
    rows, tokens, width = x.shape
    return x.view(rows, tokens, heads, width // narrow, narrow // heads).permute(0, 2, 3, 1, 4)
