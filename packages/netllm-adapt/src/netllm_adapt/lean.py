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

from netllm_adapt._lean_weights import uncovered, weights_of

__all__ = ["LeanPass", "uncovered"]


class LeanPass:
    """Tokens to hidden states, with the keys and values of a ring's slots kept.

    The backbone is left as it is; its weights are those of the moment of construction.

    Args:
        backbone: one that is not `uncovered`.
        batch: number of rows.
        slots: of the ring.
        positions: how many positions a row may have.
    """

    def __init__(self, backbone: nn.Module, *, batch: int, slots: int, positions: int) -> None:
        self._weights = w = weights_of(backbone)
        self._cos, self._sin = w.tables(positions)
        shape = (batch, w.heads, 2, slots, w.head_dim)
        self._kept = [torch.zeros(shape, dtype=w.dtype) for _ in w.layers]

    @torch.inference_mode()
    def __call__(
        self,
        tokens: Float[Tensor, "batch token width"],
        mask: Bool[Tensor, "1 1 token slot"],
        position: int,
        target: slice | Int[Tensor, "token"],
    ) -> Float[Tensor, "batch token width"]:
        """Hidden states after the last norm.

        Args:
            tokens: the new ones.
            mask: which slots each of them attends.
            position: of the first of them.
            target: the slots that their keys and values go to.
        """
        w = self._weights
        batch, count, _ = tokens.shape
        cos, sin = self._rotations(position, count)
        # Queries that share a key are rows of one product: (token, group) flattened.
        hidden = ~mask.repeat_interleave(w.groups, dim=2)
        bias = tokens.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
        x = tokens.flatten(0, 1)
        for layer, kept in zip(w.layers, self._kept, strict=True):
            qkv = layer.qkv(layer.norm(x)).view(batch, count, w.heads, w.groups + 2, w.head_dim)
            x = layer.out.plus(self._attend(qkv, kept, cos, sin, bias, target), x)
            inner = layer.mlp_norm(x)
            x = layer.down.plus(layer.up.times(inner, layer.gate.silu(inner)), x)
        return w.norm(x).view(tokens.shape)

    def _attend(
        self,
        qkv: Float[Tensor, "batch token head part dim"],
        kept: Float[Tensor, "batch head 2 slot dim"],
        cos: Float[Tensor, "token part dim"],
        sin: Float[Tensor, "token part dim"],
        bias: Float[Tensor, "1 1 query slot"],
        target: slice | Int[Tensor, "token"],
    ) -> Float[Tensor, "row width"]:
        """Write the new keys and values into their slots; what the queries see in all slots."""
        groups, dim = self._weights.groups, self._weights.head_dim
        qkv = qkv.transpose(1, 2)  # (batch, head, token, part, dim)
        turned = torch.addcmul(qkv * cos, qkv.roll(dim // 2, -1), sin)
        kept[:, :, :, target] = turned[:, :, :, groups:].transpose(2, 3)
        seen = F.scaled_dot_product_attention(
            turned[:, :, :, :groups].flatten(2, 3),
            kept[:, :, 0],
            kept[:, :, 1],
            attn_mask=bias,
            scale=self._weights.scale,
        )
        batch, heads, count = turned.shape[:3]
        return seen.view(batch, heads, count, -1).transpose(1, 2).reshape(batch * count, -1)

    def _rotations(
        self, position: int, count: int
    ) -> tuple[Float[Tensor, "token part dim"], Float[Tensor, "token part dim"]]:
        """Factors of the queries, the key and the value of a group; the value is not turned."""
        parts = self._weights.groups + 1
        cos, sin = (
            table[position : position + count, None].expand(-1, parts, -1)
            for table in (self._cos, self._sin)
        )
        still = torch.ones_like(cos[:, :1])
        return torch.cat([cos, still], dim=1), torch.cat([sin, still * 0], dim=1)
