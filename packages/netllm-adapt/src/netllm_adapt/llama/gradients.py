"""The operations of a Llama-type block with their gradients, in few passes over memory.

Autograd through the library's modules runs dozens of passes over large activations. Here each
operation keeps what its gradient needs. Norms are fp32 inside, with one rounding at the end.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_QUERIES = 64
"""Query tokens of a block of attention; 48 to 96 are equally fast for bands of 160 tokens."""
_KEYS = 32
"""A block's keys begin and end at multiples of this, so that rows of scores fill whole vectors."""
_KEPT = 2048
"""Tokens of a pass whose attention keeps its probabilities; of more they are computed again."""


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
        wide = total.to(torch.float32, copy=True)
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale.square_().div_(x.shape[1]).add_(eps).rsqrt_()
        ctx.save_for_backward(total, weight, scale)
        return total, wide.mul_(scale).mul_(weight.float()).to(x.dtype)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(
        ctx: Any, grad_total: Tensor, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """The gradient of the sum, for ``x`` and ``y`` alike, and of the weight if it is asked."""
        total, weight, scale = ctx.saved_tensors
        wide, dy = (x.to(torch.float32, copy=True) for x in (total, grad))
        of_weight = None
        if ctx.needs_input_grad[2]:
            of_weight = (dy * wide).mul_(scale).sum(0).to(weight.dtype)
        along = torch.linalg.vecdot(dy.mul_(weight.float()), wide)[:, None]
        along.mul_(scale.square()).div_(total.shape[1])
        dx = dy.addcmul_(wide, along, value=-1).mul_(scale).add_(grad_total).to(total.dtype)
        return dx, dx if ctx.needs_input_grad[1] else None, of_weight, None


class Gated(torch.autograd.Function):
    """``silu(gate)·up``; its derivatives are kept, so that the backward pass has no exponential."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """The product."""
        by_up = F.silu(gate)
        ctx.save_for_backward(torch.ops.aten.silu_backward(up, gate), by_up)
        return by_up * up

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of both factors."""
        by_gate, by_up = ctx.saved_tensors
        return grad * by_gate, grad * by_up


class Block(NamedTuple):
    """Query tokens from ``start`` to ``stop``, and all keys that one of them attends."""

    start: int
    stop: int
    first: int
    last: int
    bias: Float[Tensor, "#matrix query key"]
    """0 where a query attends a key, else minus infinity; queries of a group under each other."""


def blocks_of(
    mask: Bool[Tensor, "#row 1 query key"], dtype: torch.dtype, *, heads: int, groups: int
) -> list[Block]:
    """The blocks of a mask, in which every query attends something.

    Each of the `heads` of keys has `groups` of queries.
    """
    mask = mask[:, 0]
    if len(mask) > 1:
        mask = mask.repeat_interleave(heads, 0)
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
    anyone = mask.any(0)
    (queries, tokens), blocks = anyone.shape, []
    for start in range(0, queries, _QUERIES):
        stop = min(start + _QUERIES, queries)
        keys = anyone[start:stop].any(0).nonzero()[:, 0]
        first = int(keys[0]) // _KEYS * _KEYS
        last = min(int(keys[-1]) // _KEYS * _KEYS + _KEYS, tokens)
        part = bias[:, start:stop, first:last].repeat(1, groups, 1)
        blocks.append(Block(start, stop, first, last, part))
    return blocks


class Rotation(NamedTuple):
    """Rotary positions: cosines and sines of every token, (token, head).

    Of the sines the first half is negated, and the halves of what is rotated are swapped by a copy:
    for narrow heads this takes half the time of products of halves.
    """

    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, cos: Tensor, sin: Tensor) -> Rotation:
        """From the tables of half a head, (token, half)."""
        return cls(torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))

    def times(self, factor: float) -> Rotation:
        """Rotation and scaling in one."""
        return Rotation(self.cos * factor, self.sin * factor)

    def rotate(self, x: Tensor, out: Tensor, start: int = 0) -> Tensor:
        """``x``, (…, token, head), from the token ``start`` on, rotated into ``out``."""
        return self._into(x.clone(memory_format=torch.contiguous_format), out, start, 1)

    def unrotate(self, x: Tensor, out: Tensor, start: int = 0) -> Tensor:
        """The transposed of ``rotate``, for gradients; overwrites ``x``."""
        return self._into(x, out, start, -1)

    def _into(self, x: Tensor, out: Tensor, start: int, sign: int) -> Tensor:
        cos, sin = (table[start : start + x.shape[-2]] for table in self)
        left, right = x.chunk(2, -1)
        swapped = torch.cat([right, left], -1)
        return torch.addcmul(x.mul_(cos), swapped, sin, value=sign, out=out)


class Attend(torch.autograd.Function):
    """Banded attention with rotary positions and grouped queries.

    Keys that no query of a block attends are left out, which torch's own kernel does for plain
    causal masks alone. Sums over probabilities are products of matrices.

    Source: the blocks are those of FlexAttention (Dong et al., 2024), here for CPUs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Float[Tensor, "row query queries"],
        k: Float[Tensor, "row token keys"],
        v: Float[Tensor, "row token keys"],
        heads: int,
        rotations: tuple[Rotation, Rotation],
        blocks: list[Block],
    ) -> Float[Tensor, "row query queries"]:
        """What queries see; `heads` are those of keys, `rotations` those of queries and keys."""
        rows, tokens, _ = k.shape
        parts = _by_head(q, heads, k.shape[2])  # (row, head, group, token, dim)
        groups, dim = parts.shape[2], parts.shape[4]
        keys = q.new_empty(rows, heads, tokens, dim)
        rotations[1].rotate(_by_head(k, heads, k.shape[2])[:, :, 0], keys)
        values = _by_head(v, heads, k.shape[2])[:, :, 0].reshape(rows * heads, tokens, dim)
        keys = keys.view(rows * heads, tokens, dim)
        keys_t = _transposed(keys)
        room = q.new_empty(len(keys) * max(block.bias[0].numel() for block in blocks))
        seen, saved = torch.empty_like(q, memory_format=torch.contiguous_format), []
        into = _by_head(seen, heads, k.shape[2])
        for block in blocks:
            start, stop, first, last, _ = block
            query = q.new_empty(rows, heads, groups, stop - start, dim)
            rotations[0].rotate(parts[..., start:stop, :], query, start)
            flat = query.view(len(keys), -1, dim)
            share = _shares(block, flat, keys_t, room)
            into[..., start:stop, :] = torch.bmm(share, values[:, first:last]).view(query.shape)
            saved += [flat, share if rows * tokens <= _KEPT else None]
        ctx.save_for_backward(keys, values, *saved)
        ctx.rest = heads, rotations, blocks
        return seen

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of queries, keys and values."""
        keys, values, *saved = ctx.saved_tensors
        heads, rotations, blocks = ctx.rest
        (rows, _, _), (_, tokens, dim) = grad.shape, keys.shape
        narrow = heads * dim
        parts = _by_head(grad, heads, narrow)
        dq = torch.empty_like(grad, memory_format=torch.contiguous_format)
        of_q = _by_head(dq, heads, narrow)
        keys_t = _transposed(keys) if saved[1] is None else None
        values_t = _transposed(values)
        room = grad.new_empty(len(keys) * max(block.bias[0].numel() for block in blocks))
        dk, dv = torch.zeros_like(keys), torch.zeros_like(values)
        for block, query, share in zip(blocks, saved[::2], saved[1::2], strict=True):
            at, near = slice(block.start, block.stop), slice(block.first, block.last)
            if keys_t is not None:
                share = _shares(block, query, keys_t, room)
            mine = parts[..., at, :].reshape(query.shape)
            score = torch.bmm(mine, values_t[..., near], out=_shaped(room, *share.shape))
            torch._softmax_backward_data(score, share, -1, share.dtype, grad_input=score)
            # Read in order just now, the shares are in the cache for a product with columns.
            dv[:, near].baddbmm_(share.transpose(1, 2), mine)
            dk[:, near].baddbmm_(score.transpose(1, 2), query)
            back = torch.bmm(score, keys[:, near]).view(parts[..., at, :].shape)
            rotations[0].unrotate(back, of_q[..., at, :], block.start)
        of_k, of_v = (grad.new_empty(rows, tokens, narrow) for _ in range(2))
        shape = (rows, heads, tokens, dim)
        rotations[1].unrotate(dk.view(shape), _by_head(of_k, heads, narrow)[:, :, 0])
        _by_head(of_v, heads, narrow)[:, :, 0] = dv.view(shape)
        return dq, of_k, of_v, None, None, None


def _shares(block: Block, queries: Tensor, keys_t: Tensor, room: Tensor) -> Tensor:
    """What each query of a block gives to each of its keys; scores lie in ``room``."""
    score = _shaped(room, len(queries), *block.bias.shape[1:])
    torch.baddbmm(block.bias, queries, keys_t[..., block.first : block.last], out=score)
    return torch.softmax(score, -1)


def _transposed(x: Float[Tensor, "matrix token dim"]) -> Float[Tensor, "matrix dim token"]:
    """As oneDNN reads a second factor without packing it."""
    return x.transpose(1, 2).contiguous()


def _shaped(room: Tensor, *shape: int) -> Tensor:
    """The first numbers of a buffer that serves every block."""
    return room[: math.prod(shape)].view(shape)


def _by_head(x: Tensor, heads: int, narrow: int) -> Tensor:
    """A view (row, head of keys, group, token, dim) of (row, token, width)."""
    rows, tokens, width = x.shape
    return x.view(rows, tokens, heads, width // narrow, narrow // heads).permute(0, 2, 3, 1, 4)
