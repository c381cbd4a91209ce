"""The settings of one training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal

_KINDS: dict[str, tuple[Any, str]] = {
    "int": (Integral, "a whole number"),
    "int | None": ((Integral, type(None)), "a whole number or None"),
    "float": (Real, "a number"),
    "bool": (bool, "True or False"),
    "str": (str, "text"),
}
_CHOICES = {
    "dtype": ("bfloat16", "float16", "float32", "float64"),
    "quantise": (None, "nf4", "int8"),
    "products": (None, "int8"),
}


@dataclass(frozen=True)
class Recipe:
    """How a model is adapted. A TOML recipe holds these fields; flags override them."""

    steps: int = 600
    """Optimiser steps."""
    batch: int = 8
    """Segments per optimiser step."""
    micro_batch: int = 4
    """Segments per forward pass; bounds memory, leaves the gradient as it is."""
    learning_rate: float = 1e-3
    """Peak learning rate of encoder and head."""
    lora_learning_rate: float = 5e-4
    """Peak learning rate of the low-rank matrices."""
    warmup: int = 30
    """Steps of linear warm-up before the cosine."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    clip: float = 1.0
    """Largest norm of the gradient of all trainable parameters."""
    average: float = 0.0
    """Decay of the running average of parameters that is validated and kept; 0: no averaging."""
    rank: int = 32
    """Rank of the low-rank matrices."""
    alpha: float = 64.0
    """LoRA's alpha: the update is scaled by alpha / rank."""
    lora_dropout: float = 0.0
    """Dropout before the low-rank matrices."""
    targets: tuple[str, ...] = ()
    """Linear layers to adapt, by name, or `all-linear`; empty: the model type's usual (q, v)."""
    layers: int | None = None
    """Keep only the first blocks of the backbone."""
    dtype: str = "bfloat16"
    """The backbone's type: bfloat16, float16, float32 or float64."""
    quantise: Literal["nf4", "int8"] | None = None
    """Keep the backbone's linear layers in `nf4` or `int8` (extra `quantised`)."""
    products: Literal["int8"] | None = None
    """Round products with frozen weights to `int8` while training: faster where CPUs have VNNI."""
    gradient_checkpointing: bool = False
    """Compute activations again for gradients instead of keeping them: less memory, more time."""
    window: int = 20
    """Steps that a token may look back, its own included."""
    segment: int = 384
    """Tokens of the longest row; a stream of decisions starts afresh after as many."""
    multimodal: bool = False
    """See images too, where the task has them."""
    image_model: str = "vit_tiny_patch16_224"
    """timm's name of the frozen vision model."""
    image_weights: str = ""
    """Its weights: a safetensors file, `random` (by the seed), or empty for timm's own."""
    validate_every: int = 100
    """Steps between validations, at which the run can also be resumed."""
    log_every: int = 10
    """Steps between lines of the log."""
    tensorboard: bool = False
    """Also write the log for TensorBoard, into the run's folder (extra `tensorboard`)."""
    seed: int = 0
    """Seed of initial weights, order and dropout."""

    def __post_init__(self) -> None:
        """Check what arguments and files may get wrong.

        Raises:
            ValueError: naming the field, what must hold and what came.
        """
        for field in fields(self):
            if str(field.type) in _KINDS:
                self._check_kind(field.name, *_KINDS[str(field.type)])
        listed = isinstance(self.targets, Sequence) and not isinstance(self.targets, str)
        self._require("targets", listed, "a list of names")
        for name, choices in _CHOICES.items():
            told = " or ".join(map(repr, choices))
            self._require(name, getattr(self, name) in choices, told)
        for name in ("steps", "batch", "micro_batch", "rank", "window", "segment"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("validate_every", "log_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name, value in vars(self).items():
            self._require(name, not isinstance(value, float) or isfinite(value), "finite")
        for name in ("learning_rate", "lora_learning_rate", "clip", "alpha"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in ("warmup", "weight_decay", "seed"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        self._require("lora_dropout", 0 <= self.lora_dropout < 1, "in [0, 1)")
        self._require("average", 0 <= self.average < 1, "in [0, 1)")
        if self.products is not None and self.quantise is not None:
            raise ValueError(
                f"Recipe: `products` must be None with `quantise`, got {self.products!r}: packed "
                "weights are made whole for every pass. Choose one of the two."
            )
        if self.layers is not None:
            self._require("layers", self.layers >= 1, "at least 1")

    def _check_kind(self, name: str, kind: Any, what: str) -> None:
        value = getattr(self, name)  # True is a whole number to Python
        self._require(
            name, isinstance(value, kind) and (kind is bool) == isinstance(value, bool), what
        )

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(f"Recipe: `{name}` must be {what}, got {getattr(self, name)!r}.")
