"""Who may attend whom, and at which positions: one rule each, for every pass of a backbone."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

_ATTENDING = {"full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers that follow a given mask; the library makes no mask of its own then."""
_BY_SLOT = {"gpt_neo"}
"""Kinds that hide keys by the slots that they lie in, whatever the mask says."""
_BY_LENGTH = {"dynamic", "longrope"}
"""Rotary positions that change for all tokens once a row is longer than those learned."""


def band(
    query_step: Int[Tensor, "row query"],
    query_position: Int[Tensor, "#row query"],
    key_step: Int[Tensor, "row key"],
    key_position: Int[Tensor, "#row key"],
    *,
    window: int,
) -> Bool[Tensor, "row 1 query key"]:
    """Who may attend whom: token i sees token j if j is not later and `step(i) - step(j) < window`.

    Where all rows are cut alike, one row serves the whole batch.

    Source: DESIGN decision 1. Padding sits behind every real token of its row, so that causality
    hides it. Empty slots of a ring have position -1.
    """
    near = query_step[:, :, None] - key_step[:, None] < window
    past = (key_position[:, None] <= query_position[:, :, None]) & (key_position[:, None] >= 0)
    return (near & past)[:, None]


def mask_argument(
    backbone: nn.Module, mask: Bool[Tensor, "#row 1 query key"], dtype: torch.dtype
) -> Tensor:
    """The mask in the form that the backbone's attention reads.

    ``sdpa`` reads truth values; ``eager`` adds the mask to its scores, in which True would be a
    score of 1 and hide nothing.

    Raises:
        ValueError: if its attention is another, which takes no mask of its caller's.
    """
    config: Any = backbone.config
    attention = config._attn_implementation
    if attention == "sdpa":
        return mask
    if attention != "eager":
        raise ValueError(
            f"The backbone's attention must be 'sdpa' or 'eager', got {attention!r}, which takes "
            "no mask of who may attend whom. Call `set_attn_implementation` on it, with 'sdpa' or "
            "'eager'."
        )
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, torch.finfo(dtype).min
    )


def run_backbone(
    backbone: nn.Module,
    tokens: Float[Tensor, "row token width"],
    mask: Bool[Tensor, "#row 1 token key"],
    position: Int[Tensor, "#row token"],
    cache: Any = None,
) -> Float[Tensor, "row token width"]:
    """Hidden states after the last layer, by the backbone's own modules.

    Args:
        backbone: a causal language model without LM head.
        tokens: padded at the end of their rows.
        mask: who may attend whom, see `band`.
        position: of each token, -1 of padding.
        cache: holds keys and values of earlier tokens, and takes those of `tokens`.

    Raises:
        ValueError: if its attention takes no mask.
    """
    caching = {} if cache is None else {cache_argument(backbone): cache}
    out = backbone(
        inputs_embeds=tokens,
        attention_mask=mask_argument(backbone, mask, tokens.dtype),
        position_ids=position.clamp(min=0),
        use_cache=cache is not None,
        **caching,
    )
    hidden: Tensor = out.last_hidden_state
    return hidden


def check_positions(backbone: nn.Module, tokens: int) -> None:
    """Raise unless a row of so many tokens has positions that the backbone knows.

    A table of learned positions has an end. Rotary ones are computed, and attention depends on
    differences alone, which the window bounds: rows may be longer than any that was learned, unless
    their number changes how all tokens are turned.

    Raises:
        ValueError: with how many positions there are and how many the row needs.
    """
    model: Any = backbone
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is None or tokens <= limit:
        return
    words = model.get_input_embeddings()
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m is not words]
    learned = any(limit <= table.num_embeddings <= limit + 2 for table in tables)  # OPT: two more
    if learned or any(getattr(m, "rope_type", None) in _BY_LENGTH for m in model.modules()):
        raise ValueError(
            f"The backbone has learned {limit} positions, but a row of {tokens} tokens needs "
            f"{tokens}. Make rows shorter (`segment`, `window`, smaller observations), or take a "
            "backbone with rotary positions, such as smollm2-135m."
        )


def check_attention(backbone: nn.Module) -> None:
    """Raise unless a backbone follows any mask and positions, and can keep its keys in a `Ring`.

    Raises:
        ValueError: with the reason.
    """
    config: Any = backbone.config
    missing = {"inputs_embeds", "attention_mask", "position_ids"} - _arguments(backbone)
    others = {*(getattr(config, "layer_types", None) or ())} - _ATTENDING
    reason = None
    if getattr(config, "is_encoder_decoder", False):
        reason = "it has an encoder beside its decoder"
    elif getattr(backbone, "_is_stateful", False):
        reason = "it has recurrent layers, which see all that came before"
    elif others:
        reason = f"it has layers of other kinds, {sorted(others)}"
    elif missing:
        reason = f"it takes no {' and no '.join(f'`{name}`' for name in sorted(missing))}"
    elif (
        getattr(config, "alibi", False)
        or config.model_type in _BY_SLOT
        or (config._attn_implementation == "eager" and _hides_slots(backbone))
    ):
        reason = "it reads positions from the order in which keys are kept"
    if reason is not None:
        raise ValueError(
            f"A backbone must attend under any mask, at any positions; {config.model_type!r} "
            f"cannot: {reason}. Take another kind, such as llama, qwen3, gemma3, gpt2 or opt."
        )


def _hides_slots(backbone: nn.Module) -> bool:
    """Whether it is GPT-2 of transformers before 5, whose eager attention had a mask of its own."""
    config: Any = backbone.config
    names = (name for name, _ in backbone.named_buffers())
    return config.model_type == "gpt2" and any(name.endswith("attn.bias") for name in names)


def cache_argument(backbone: nn.Module) -> str:
    """What the backbone calls its cache: transformers renamed `past_key_values` in 5.24."""
    return "cache" if "cache" in _arguments(backbone) else "past_key_values"


def _arguments(backbone: nn.Module) -> frozenset[str]:
    """The names of what a backbone takes, in PEFT's wrapper or not."""
    plain: Any = backbone
    if hasattr(plain, "get_base_model"):
        plain = plain.get_base_model()
    return _parameters_of(type(plain).forward)


@functools.cache
def _parameters_of(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)
