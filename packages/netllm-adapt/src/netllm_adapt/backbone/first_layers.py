"""A backbone's first blocks."""

from operator import attrgetter
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Llama, Qwen, Mistral, Gemma; GPT-2; OPT.
_PATHS = ("layers", "h", "decoder.layers")


def keep_blocks(model: "PreTrainedModel", count: int) -> None:
    """Drop all but the first ``count`` blocks, in the model and in its configuration.

    Raises:
        ValueError: If it has fewer, or its architecture keeps them elsewhere.
    """
    blocks = _blocks(model)
    if not 1 <= count <= len(blocks):
        raise ValueError(
            f"`layers` must be from 1 to {len(blocks)}, the blocks of this backbone, got {count}."
        )
    del blocks[count:]
    model.config.num_hidden_layers = count
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:count]


def _blocks(model: "PreTrainedModel") -> nn.ModuleList:
    for path in _PATHS:
        try:
            blocks = attrgetter(path)(model)
        except AttributeError:
            continue
        if isinstance(blocks, nn.ModuleList):
            return blocks
    raise ValueError(
        f"The blocks of a backbone must be a ModuleList under one of {', '.join(_PATHS)}; "
        f"{type(model).__name__} has none of them. Load it with layers=None."
    )
