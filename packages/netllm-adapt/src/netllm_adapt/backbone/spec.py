"""Which backbone a model was adapted from, and how wide it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from netllm_adapt.backbone.load import load_backbone

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone a checkpoint was adapted from: the arguments of `load_backbone`."""

    name: str
    layers: int | None = None
    dtype: str = "bfloat16"
    seed: int = 0
    quantise: str | None = None

    def load(self, *, dtype: str | None = None) -> PreTrainedModel:
        """The backbone, in another type if one is given; see `load_backbone` for what it raises."""
        return load_backbone(**asdict(self) | ({} if dtype is None else {"dtype": dtype}))


def embedding_width(backbone: nn.Module) -> int:
    """The width of `inputs_embeds`: the hidden size, or OPT's smaller `word_embed_proj_dim`."""
    config: Any = backbone.config
    return int(getattr(config, "word_embed_proj_dim", config.hidden_size))
