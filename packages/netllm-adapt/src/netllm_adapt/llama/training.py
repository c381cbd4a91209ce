"""A lean training pass for Llama-type backbones on CPU.

The function that the library's modules compute, with gradients, in less time: banded attention by
blocks, and norms, gates and rotary positions in few passes over memory. Linear layers are called
as they are, whatever adapters they carry, those that share their input in one go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from netllm_adapt.llama.gradients import Attend, Block, Gated, NormOfSum, Rotation, blocks_of
from netllm_adapt.llama.packed_weights import plain_of, strange
from netllm_adapt.lora import outputs_of

_on: ContextVar[bool] = ContextVar("netllm_lean_training", default=True)


@contextmanager
def library_training() -> Iterator[None]:
    """Train through the library's own modules in this context."""
    token = _on.set(False)
    try:
        yield
    finally:
        _on.reset(token)


def uncovered_training(backbone: nn.Module) -> str | None:
    """Why the lean training pass does not stand in for the backbone's own; None if it does."""
    if not _on.get():
        return "`library_training` is asked for"
    if not torch.is_grad_enabled():
        return "no gradient is asked for"
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return "it is compiled or under autocast"
    if (reason := strange(backbone)) is not None:
        return reason
    plain: Any = plain_of(backbone)
    if plain.dtype not in (torch.float32, torch.bfloat16):
        return f"it computes in {plain.dtype}"
    if plain.training and plain.config.attention_dropout:
        return "it drops out attention"
    return None


def lean_training(
    backbone: nn.Module,
    tokens: Float[Tensor, "row token width"],
    mask: Bool[Tensor, "#row 1 token token"],
    wanted: Int[Tensor, "some"] | None = None,
) -> Float[Tensor, "row some width"] | None:
    """Hidden states after the last norm of a backbone that is not `uncovered_training`.

    None if a token attends nothing, of which the library has its own idea.

    Args:
        backbone: the model, in PEFT's wrapper or not.
        tokens: with positions from 0 in every row.
        mask: who may attend whom.
        wanted: tokens of every row whose hidden states are asked for; all if None. The last block
            has the keys and values of all tokens, and the rest of these alone.
    """
    if not bool(mask.any(-1).all()):
        return None
    plain: Any = plain_of(backbone)
    attended = _Attended.of(plain, tokens, mask)
    last = attended if wanted is None else _Attended.of(plain, tokens, mask, wanted)
    rows, _, width = tokens.shape
    total, normed = _norm(plain.layers[0].input_layernorm, tokens.reshape(-1, width), None)
    following = [layer.input_layernorm for layer in plain.layers[1:]] + [plain.norm]
    for layer, norm in zip(plain.layers, following, strict=True):
        if layer is plain.layers[-1]:
            attended, total = last, last.asking(total.view(rows, -1, width)).reshape(-1, width)
        block = partial(_block, layer, norm, attended, rows)
        if layer.training and getattr(layer, "gradient_checkpointing", False):
            total, normed = layer._gradient_checkpointing_func(block, total, normed)
        else:
            total, normed = block(total, normed)
    return normed.view(rows, -1, width)


def _block(
    layer: Any, norm: Any, attended: _Attended, rows: int, total: Tensor, normed: Tensor
) -> tuple[Tensor, Tensor]:
    """The sum after a block, and what the following norm makes of it."""
    width = total.shape[1]
    seen = _attention(layer.self_attn, normed.view(rows, -1, width), attended)
    total, normed = _norm(layer.post_attention_layernorm, total, seen.view(-1, width))
    return _norm(norm, total, _mlp(layer.mlp, normed.view(rows, -1, width)))


class _Attended(NamedTuple):
    """Which tokens ask in a block's attention, and what they see."""

    wanted: Tensor | None
    """The tokens that ask; all if None."""
    blocks: list[Block]
    rotations: tuple[Rotation, Rotation]
    """The rotations of queries, with attention's scale, and of keys."""

    @classmethod
    def of(
        cls, plain: Any, tokens: Tensor, mask: Tensor, wanted: Tensor | None = None
    ) -> _Attended:
        """From all tokens, which have positions from 0, and their mask."""
        attention = plain.layers[0].self_attn
        with torch.no_grad():
            position = torch.arange(tokens.shape[1], device=tokens.device)[None]
            cos, sin = plain.rotary_emb(tokens, position)
        half = cos.shape[-1] // 2
        keys = Rotation.of(cos[0, :, :half], sin[0, :, :half])
        queries = keys.times(attention.scaling)
        if wanted is not None:
            mask, wanted = mask[:, :, wanted], wanted.to(tokens.device)
            queries = Rotation(*(table[wanted] for table in queries))
        groups = attention.num_key_value_groups
        heads = plain.config.num_attention_heads // groups
        blocks = blocks_of(mask, keys.cos.dtype, heads=heads, groups=groups)
        blocks = [block._replace(bias=block.bias.to(tokens.device)) for block in blocks]
        return cls(wanted, blocks, (queries, keys))

    def asking(self, x: Float[Tensor, "row token width"]) -> Float[Tensor, "row some width"]:
        """Of the tokens that ask."""
        return x if self.wanted is None else x.index_select(1, self.wanted)


def _norm(norm: Any, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    pair: tuple[Tensor, Tensor] = NormOfSum.apply(  # type: ignore[no-untyped-call, unused-ignore]
        x, y, norm.weight, norm.variance_epsilon
    )
    return pair


def _attention(part: Any, x: Tensor, attended: _Attended) -> Tensor:
    if attended.wanted is None:
        q, k, v = outputs_of((part.q_proj, part.k_proj, part.v_proj), x)
    else:
        (q,) = outputs_of((part.q_proj,), attended.asking(x))
        k, v = outputs_of((part.k_proj, part.v_proj), x)
    seen = Attend.apply(  # type: ignore[no-untyped-call, unused-ignore]
        q, k, v, k.shape[2] // part.head_dim, attended.rotations, attended.blocks
    )
    (result,) = outputs_of((part.o_proj,), seen)
    return result


def _mlp(part: Any, x: Tensor) -> Tensor:
    gate, up = outputs_of((part.gate_proj, part.up_proj), x)
    inner = Gated.apply(  # type: ignore[no-untyped-call, unused-ignore]
        gate.flatten(0, 1), up.flatten(0, 1)
    )
    (result,) = outputs_of((part.down_proj,), inner.view(*x.shape[:2], -1))
    return result.flatten(0, 1)
