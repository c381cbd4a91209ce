"""A backbone's first blocks."""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Llama, Qwen, Mistral, Gemma; GPT-2; OPT.
_PATHS = ("layers", "h", "decoder.layers")


def blocks(model: "PreTrainedModel") -> nn.ModuleList:
    """The model's transformer blocks, first to last.

    Raises:
        ValueError: If the architecture keeps them elsewhere.
    """
    for path in _PATHS:
        found: object = model
        for part in path.split("."):
            found = getattr(found, part, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise ValueError(
        f"The blocks of a backbone must be a ModuleList under one of {', '.join(_PATHS)}; "
        f"{type(model).__name__} has none of them. Load it with layers=None."
    )


def keep_blocks(model: "PreTrainedModel", count: int) -> None:
    """Drop all but the first ``count`` blocks, in the model and in its configuration."""
    found = blocks(model)
    if not 1 <= count <= len(found):
        raise ValueError(
            f"`layers` must be from 1 to {len(found)}, the blocks of this backbone, got {count}."
        )
    del found[count:]
    model.config.num_hidden_layers = count
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:count]
