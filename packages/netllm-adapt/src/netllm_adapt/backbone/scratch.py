"""Backbones that are no language models: small, seeded, trained whole (DESIGN decision 9)."""

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCRATCH = "scratch-"
_FORM = re.compile(r"scratch-(mlp-)?(\d+)x(\d+)")
_HEAD = 16  # width of an attention head


def is_scratch(name: str) -> bool:
    """Whether a backbone of this name is trained whole, without low-rank matrices."""
    return name.startswith(SCRATCH)


def scratch(name: str, *, dtype: torch.dtype, seed: int) -> "PreTrainedModel":
    """The Llama network that ``scratch-WIDTHxLAYERS`` names, with random trainable weights.

    Its MLP is three times as wide as the network; heads are 16 wide. That of
    ``scratch-mlp-WIDTHxLAYERS`` learns no attention: a token sees the mean of all that it may see.

    Raises:
        ValueError: If the name has another form, or the width is no multiple of 16.
    """
    from transformers import LlamaConfig, LlamaModel

    match = _FORM.fullmatch(name)
    width, layers = (int(match[2]), int(match[3])) if match else (0, 0)
    if width % _HEAD or not width or not layers:
        raise ValueError(
            f"A backbone from scratch must be named `scratch-WIDTHxLAYERS` or "
            f"`scratch-mlp-WIDTHxLAYERS` with a width that is a multiple of {_HEAD}, such as "
            f"scratch-128x4; got {name!r}."
        )
    config = LlamaConfig(
        vocab_size=3,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // _HEAD,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = LlamaModel(config)
        model = model.to(dtype)  # type: ignore[arg-type, unused-ignore]
    if match is not None and match[1]:
        blocks: Any = model.layers
        for block in blocks:
            for part in (block.self_attn.q_proj, block.self_attn.k_proj):
                nn.init.zeros_(part.weight).requires_grad_(False)
    model.get_input_embeddings().requires_grad_(False)  # never read: the encoder gives the tokens
    return model
