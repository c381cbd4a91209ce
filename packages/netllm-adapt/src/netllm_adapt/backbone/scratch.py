"""Backbones that are no language models: small, seeded, trained whole (DESIGN decision 9)."""

import re
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCRATCH = "scratch-"
_FORM = re.compile(r"scratch-(\d+)x(\d+)")
_HEAD = 16  # width of an attention head


def is_scratch(name: str) -> bool:
    """Whether a backbone of this name is trained whole, without low-rank matrices."""
    return name.startswith(SCRATCH)


def scratch(name: str, *, dtype: torch.dtype, seed: int) -> "PreTrainedModel":
    """The Llama network that ``scratch-WIDTHxLAYERS`` names, with random trainable weights.

    Its MLP is three times as wide as the network; heads are 16 wide.

    Raises:
        ValueError: If the name has another form, or the width is no multiple of 16.
    """
    from transformers import LlamaConfig, LlamaModel

    match = _FORM.fullmatch(name)
    if match is None or int(match[1]) % _HEAD or not int(match[1]) or not int(match[2]):
        raise ValueError(
            f"A backbone from scratch must be named `scratch-WIDTHxLAYERS` with a width that is a "
            f"multiple of {_HEAD}, such as scratch-128x4; got {name!r}."
        )
    width, layers = int(match[1]), int(match[2])
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
    model.get_input_embeddings().requires_grad_(False)  # never read: the encoder gives the tokens
    return model
