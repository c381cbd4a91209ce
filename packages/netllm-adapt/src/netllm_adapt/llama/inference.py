"""A lean inference pass for Llama-type backbones on CPU.

RMS norm, rotary positions, grouped-query attention, gated MLP, and nothing else: the same function
as the library's modules in eval mode, without their overhead, over packed weights. It serves
streams of decisions, where a pass of a few tokens should cost no more than reading the weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from netllm_adapt.attention import grown, write
from netllm_adapt.llama.weights import uncovered, weights_of

__all__ = ["LeanPass", "serves", "uncovered"]


def serves(backbone: nn.Module, lean: bool | None) -> bool:
    """Whether the lean pass is to be taken: if it is asked for, or if None and it covers all.

    Raises:
        ValueError: if it is asked for and the backbone is `uncovered`.
    """
    if lean is False:
        return False
    reason = uncovered(backbone)
    if lean and reason is not None:
        raise ValueError(
            f"`lean` must be None or False for this backbone: {reason}. "
            "The library's own pass serves it."
        )
    return reason is None


class LeanPass:
    """Tokens to hidden states, with the keys and values of a ring's slots kept.

    The backbone is left as it is; its weights are those of the moment of construction.

    Args:
        backbone: one that is not `uncovered`.
        batch: number of rows.
    """

    def __init__(self, backbone: nn.Module, *, batch: int) -> None:
        self._weights = w = weights_of(backbone)
        self._tables = w.tables(0)
        shape = (batch, w.heads, 2, 0, w.head_dim)
        self._kept = [torch.zeros(shape, dtype=w.dtype, device="cpu") for _ in w.layers]

    def keep(self, rows: Int[Tensor, "row"]) -> None:
        """Forget what all other rows have seen."""
        self._kept = [kept[rows] for kept in self._kept]

    def seen(self) -> list[tuple[Tensor, Tensor]]:
        """The kept keys and values of every layer, each (batch, head, slot, dim)."""
        return [(kept[:, :, 0], kept[:, :, 1]) for kept in self._kept]

    @torch.inference_mode()
    def __call__(
        self,
        tokens: Float[Tensor, "batch token width"],
        mask: Bool[Tensor, "#batch 1 token slot"],
        position: Int[Tensor, "#batch token"],
        target: slice | Int[Tensor, "batch token"],
    ) -> Float[Tensor, "batch token width"]:
        """Hidden states after the last norm; of padding, zeros.

        Args:
            tokens: the new ones; rows that have fewer are padded at their end.
            mask: which slots each of them attends.
            position: of each of them, -1 of padding.
            target: the slots that their keys and values go to.
        """
        w = self._weights
        batch, count, width = tokens.shape
        cos, sin = self._rotations(position)
        # Queries that share a key are rows of one product: (token, group) flattened.
        hidden = ~mask.repeat_interleave(w.groups, dim=2)
        bias = tokens.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
        self._kept = [grown(kept, mask.shape[3], dim=3) for kept in self._kept]
        rows = _rows(position, batch)
        x = rows.take(tokens.flatten(0, 1))
        for layer, kept in zip(w.layers, self._kept, strict=True):
            qkv = rows.spread(layer.qkv(layer.norm(x)))
            qkv = qkv.view(batch, count, w.heads, w.groups + 2, w.head_dim)
            x = layer.out.plus(rows.take(self._attend(qkv, kept, cos, sin, bias, target)), x)
            inner = layer.mlp_norm(x)
            x = layer.down.plus(layer.up.times(inner, layer.gate.silu(inner)), x)
        return rows.spread(w.norm(x)).view(batch, count, width)

    def _attend(
        self,
        qkv: Float[Tensor, "batch token head part dim"],
        kept: Float[Tensor, "batch head 2 slot dim"],
        cos: Float[Tensor, "#batch 1 token part dim"],
        sin: Float[Tensor, "#batch 1 token part dim"],
        bias: Float[Tensor, "#batch 1 query slot"],
        target: slice | Int[Tensor, "batch token"],
    ) -> Float[Tensor, "row width"]:
        """Write the new keys and values into their slots; what the queries see in all slots."""
        groups, dim = self._weights.groups, self._weights.head_dim
        qkv = qkv.transpose(1, 2)  # (batch, head, token, part, dim)
        turned = torch.addcmul(qkv * cos, qkv.roll(dim // 2, -1), sin)
        write(kept, turned[:, :, :, groups:].transpose(2, 3), target, dim=3)
        seen = F.scaled_dot_product_attention(
            turned[:, :, :, :groups].flatten(2, 3),
            kept[:, :, 0],
            kept[:, :, 1],
            attn_mask=bias,
            scale=self._weights.scale,
        )
        batch, heads, count = turned.shape[:3]
        return seen.view(batch, heads, count, -1).transpose(1, 2).reshape(batch * count, -1)

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


class _Every:
    """All tokens are real."""

    def take(self, x: Tensor) -> Tensor:
        return x

    def spread(self, x: Tensor) -> Tensor:
        return x


class _Some:
    """Some tokens are real: products are spared the padding, attention sees it."""

    def __init__(self, real: Bool[Tensor, "row"]) -> None:
        self._index = real.nonzero()[:, 0]
        self._count = len(real)

    def take(self, x: Tensor) -> Tensor:
        return x[self._index]

    def spread(self, x: Tensor) -> Tensor:
        out = x.new_zeros(self._count, x.shape[1])
        out[self._index] = x
        return out


def _rows(position: Int[Tensor, "#batch token"], batch: int) -> _Every | _Some:
    real = position >= 0
    return _Every() if bool(real.all()) else _Some(real.expand(batch, -1).flatten())
