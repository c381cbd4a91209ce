"""A lean inference pass for Llama-type backbones on CPU.

RMS norm, rotary positions, grouped-query attention, gated MLP, and nothing else: the same function
as the library's modules in eval mode, without their overhead, over packed weights. It serves
streams of decisions, where a pass of a few tokens should cost no more than reading the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from netllm_adapt.lora.frozen_weights import has_onednn, onednn_weight

_FEW_PAIRS = 2**15
"""So many pairs of a query and a key cost about what a further call for each row does."""


class Product:
    """``x·Wᵀ + bias`` for rows ``x``, with the weights packed by oneDNN where it can.

    torch packs a plain weight anew at every call, which for a few rows costs as much as the
    product. Both forms round once, after the bias and what is added or multiplied.
    """

    def __init__(self, weight: Float[Tensor, "out in"], bias: Tensor | None) -> None:
        self._bias = None if bias is None else bias.detach().contiguous()  # as oneDNN reads it
        self._packed = has_onednn(weight.dtype)
        self._weight = onednn_weight(weight) if self._packed else weight

    def __call__(
        self, x: Float[Tensor, "row in"], then: str = "none", other: Tensor | None = None
    ) -> Float[Tensor, "row out"]:
        """The product; `then` its SiLU ("swish"), or it times ("mul") or plus ("add") `other`."""
        if self._packed:
            product, own = torch.ops.mkldnn._linear_pointwise, (self._weight, self._bias)
            y: Tensor = (
                product(x, *own, then, [], "")
                if other is None
                else product.binary(x, other, *own, then)
            )
            return y
        y = F.linear(x, self._weight, self._bias)
        if other is None:
            return F.silu(y) if then == "swish" else y
        return y * other if then == "mul" else y + other


class Norm:
    """RMS norm, computed as the layer norm of (x, -x), whose mean is zero.

    torch has one kernel for layer norm and a chain of eight for RMS norm. Computes in fp32 and
    rounds once.
    """

    def __init__(self, weight: Float[Tensor, "width"], eps: float) -> None:
        self._weight = torch.stack([weight.detach(), torch.zeros_like(weight)])
        self._signs = torch.tensor([[1.0], [-1.0]], dtype=weight.dtype, device=weight.device)
        self._eps = eps

    def __call__(self, x: Float[Tensor, "row width"]) -> Float[Tensor, "row width"]:
        """Every row over the root of its mean square, times the weight."""
        pairs = x[:, None] * self._signs
        normed = F.layer_norm(pairs, self._weight.shape, self._weight, None, self._eps)
        return normed[:, 0].contiguous()


@dataclass(frozen=True)
class Layer:
    """One block; `qkv` gives for each key its group's queries, the key and the value."""

    norm: Norm
    qkv: Product
    out: Product
    mlp_norm: Norm
    gate: Product
    up: Product
    down: Product


@dataclass(frozen=True)
class LeanWeights:
    """What the lean pass needs to know of a backbone; holds no reference to it."""

    layers: list[Layer]
    norm: Norm
    dtype: torch.dtype
    heads: int
    """Of keys and values."""
    groups: int
    """Queries per key."""
    head_dim: int
    scale: float
    rotation: nn.Module

    def tables(self, positions: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (position, head_dim); the sines carry the sign of the rotated half."""
        like = torch.zeros(1, dtype=self.dtype, device="cpu")
        cos, sin = self.rotation(like, torch.arange(positions, device="cpu")[None])
        half = self.head_dim // 2
        return cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=1)


class LeanPass:
    """Tokens to hidden states after the last norm, by weights that `lean_weights` has read."""

    def __init__(self, weights: LeanWeights) -> None:
        self._weights = weights
        self._tables = weights.tables(0)

    @torch.inference_mode()
    def __call__(
        self,
        tokens: Float[Tensor, "batch token width"],
        mask: Bool[Tensor, "#batch 1 token key"],
        position: Int[Tensor, "#batch token"],
        cache: Any = None,
    ) -> Float[Tensor, "batch token width"]:
        """Hidden states; of padding, zeros.

        Args:
            tokens: the new ones; rows that have fewer are padded at their end.
            mask: which keys each of them attends.
            position: of each of them, -1 of padding.
            cache: holds keys and values of earlier tokens, as a `Ring` does; None: there are none.
        """
        w = self._weights
        batch, count, width = tokens.shape
        cos, sin = self._rotations(position)
        attend = _Attention(mask, position, groups=w.groups, scale=w.scale, dtype=tokens.dtype)
        rows = _Rows(position, batch)
        x = rows.of(tokens.flatten(0, 1))
        for number, layer in enumerate(w.layers):
            qkv = rows.tokens(layer.qkv(layer.norm(x)))
            qkv = qkv.view(batch, count, w.heads, w.groups + 2, w.head_dim).transpose(1, 2)
            turned = torch.addcmul(qkv * cos, qkv.roll(w.head_dim // 2, -1), sin)
            keys, values = turned[:, :, :, w.groups], turned[:, :, :, w.groups + 1]
            if cache is not None:
                keys, values = cache.update(keys, values, number)
            queries = turned[:, :, :, : w.groups].flatten(2, 3)
            seen = attend(queries, keys, values)
            seen = seen.view(batch, w.heads, count, -1).transpose(1, 2).reshape(batch * count, -1)
            x = layer.out(rows.of(seen), "add", x)
            inner = layer.mlp_norm(x)
            x = layer.down(layer.up(inner, "mul", layer.gate(inner, "swish")), "add", x)
        return rows.tokens(w.norm(x)).view(batch, count, width)

    def _rotations(self, position: Int[Tensor, "#batch token"]) -> tuple[Tensor, Tensor]:
        """Factors of the queries, the key and the value of a group; the value is not turned.

        Both have the shape (batch, 1, token, part, dim).
        """
        parts = self._weights.groups + 1
        if (need := int(position.amax()) + 1) > len(self._tables[0]):
            self._tables = self._weights.tables(2 * need)
        cos, sin = (
            table[position][:, None, :, None].expand(-1, -1, -1, parts, -1)
            for table in self._tables
        )
        still = torch.ones_like(cos[:, :, :, :1])
        return torch.cat([cos, still], dim=3), torch.cat([sin, still * 0], dim=3)


class _Attention:
    """Attention of one pass, of all rows at once or of one row after another.

    Rows are padded to the one with the most tokens and to that with the most keys. Where more than
    half of all pairs of a query and a key are padding, each row by itself is faster.
    """

    def __init__(
        self,
        mask: Bool[Tensor, "#batch 1 token key"],
        position: Int[Tensor, "#batch token"],
        *,
        groups: int,
        scale: float,
        dtype: torch.dtype,
    ) -> None:
        self._groups, self._scale = groups, scale
        self._spans = spans(mask, position)
        masks = (
            [mask]
            if self._spans is None
            else [
                mask[row : row + 1, :, :tokens, :keys]
                for row, (tokens, keys) in enumerate(self._spans)
            ]
        )
        self._biases = [self._bias(one, dtype) for one in masks]

    def _bias(
        self, mask: Bool[Tensor, "#batch 1 token key"], dtype: torch.dtype
    ) -> Float[Tensor, "#batch 1 query key"]:
        """Queries that share a key are rows of one product: (token, group) flattened."""
        hidden = ~mask.repeat_interleave(self._groups, dim=2)
        return torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, -torch.inf)

    def __call__(
        self,
        queries: Float[Tensor, "batch head query dim"],
        keys: Float[Tensor, "batch head key dim"],
        values: Float[Tensor, "batch head key dim"],
    ) -> Float[Tensor, "batch head query dim"]:
        """What each query has seen; of padding anything that is finite."""
        attend = partial(F.scaled_dot_product_attention, scale=self._scale)
        if self._spans is None:
            return attend(queries, keys, values, attn_mask=self._biases[0])
        seen = torch.zeros_like(queries)
        for row, ((tokens, count), bias) in enumerate(zip(self._spans, self._biases, strict=True)):
            own = slice(row, row + 1), slice(None)
            asked, held = (*own, slice(tokens * self._groups)), (*own, slice(count))
            seen[asked] = attend(queries[asked], keys[held], values[held], attn_mask=bias)
        return seen


def spans(
    mask: Bool[Tensor, "#batch 1 token key"], position: Int[Tensor, "#batch token"]
) -> list[tuple[int, int]] | None:
    """For each row, how many tokens and how many keys are not behind all that it has.

    Args:
        mask: which keys each token attends.
        position: of each token, -1 of padding, which stands behind the tokens of its row.

    Returns:
        None where one pass over all rows is as fast.
    """
    rows, _, tokens, keys = mask.shape
    pairs = rows * tokens * keys
    if rows == 1 or len(position) != rows or pairs < _FEW_PAIRS:
        return None
    own_tokens = (position >= 0).sum(1)
    own_keys = keys - mask.any(dim=2)[:, 0].flip(1).to(torch.uint8).argmax(1)
    if pairs < 2 * int((own_tokens * own_keys).sum()) + _FEW_PAIRS:
        return None
    return [*zip(own_tokens.tolist(), own_keys.tolist(), strict=True)]


class _Rows:
    """Which tokens pass the products: those that are no padding, and a few zeros.

    Attention sees all tokens, products are spared the padding.
    """

    def __init__(self, position: Int[Tensor, "#batch token"], batch: int) -> None:
        real = (position >= 0).expand(batch, -1).flatten()
        self._real = None if bool(real.all()) else real.nonzero()[:, 0]
        self._tokens = len(real)
        self._count = self._tokens if self._real is None else len(self._real)
        self._zeros = compiled_rows(self._count) - self._count

    def of(self, x: Float[Tensor, "token width"]) -> Float[Tensor, "row width"]:
        """The rows of the tokens."""
        x = x if self._real is None else x[self._real]
        return F.pad(x, (0, 0, 0, self._zeros)) if self._zeros else x

    def tokens(self, x: Float[Tensor, "row width"]) -> Float[Tensor, "token width"]:
        """The tokens of the rows; zeros for padding."""
        x = x[: self._count]
        if self._real is None:
            return x
        out = x.new_zeros(self._tokens, x.shape[1])
        out[self._real] = x
        return out


def compiled_rows(rows: int) -> int:
    """With how many rows to compute so many: one of eight numbers between two powers of two.

    oneDNN compiles a product for every number of rows anew and keeps a thousand: some milliseconds
    a block, and half a megabyte for each product.
    """
    step = 1 << max(0, rows.bit_length() - 4)
    return -(-rows // step) * step
