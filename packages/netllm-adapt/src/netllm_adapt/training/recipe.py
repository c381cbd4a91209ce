"""The settings of one training run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal, get_type_hints

_KINDS: dict[Any, tuple[Any, str]] = {
    int: (Integral, "a whole number"),
    int | None: ((Integral, type(None)), "a whole number or None"),
    float: (Real, "a number"),
    bool: (bool, "True or False"),
    str: (str, "text"),
}
_CHOICES = {
    "dtype": ("bfloat16", "float16", "float32", "float64"),
    "quantise": (None, "nf4", "int8"),
    "products": (None, "int8"),
}
_COUNTS = [
    "steps",
    "batch",
    "micro_batch",
    "rank",
    "window",
    "segment",
    "validate_every",
    "log_every",
    "layers",
]
_BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        _COUNTS,
        (lambda value: value is None or value >= 1, "at least 1"),
    ),
    **dict.fromkeys(
        ("learning_rate", "clip", "alpha"),
        (lambda value: value > 0, "above 0"),
    ),
    **dict.fromkeys(
        ("lora_learning_rate", "warmup", "weight_decay", "seed"),
        (lambda value: value >= 0, "at least 0"),
    ),
    **dict.fromkeys(("lora_dropout", "average"), (lambda value: 0 <= value < 1, "in [0, 1)")),
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
    """Peak learning rate of the low-rank matrices; 0: they add nothing, the others learn alone."""
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
    returns: bool = True
    """Tell a model that decides what is still to be earned; without, it imitates labels alone."""
    validate_every: int = 100
    """Steps between validations, at which the run can also be resumed."""
    log_every: int = 10
    """Steps between lines of the log."""
    seed: int = 0
    """Seed of initial weights, order and dropout."""

    def __post_init__(self) -> None:
        """Check what arguments and files may get wrong.

        Raises:
            ValueError: naming the field, what must hold and what came.
        """
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if hint in _KINDS:
                kind, what = _KINDS[hint]  # True is a whole number to Python
                fits = isinstance(value, kind) and (kind is bool) == isinstance(value, bool)
                self._require(name, fits, what)
            self._require(name, not isinstance(value, float) or isfinite(value), "finite")
        listed = isinstance(self.targets, Sequence) and not isinstance(self.targets, str)
        self._require("targets", listed, "a list of names")
        for name, choices in _CHOICES.items():
            self._require(name, getattr(self, name) in choices, " or ".join(map(repr, choices)))
        for name, (holds, what) in _BOUNDS.items():
            self._require(name, holds(getattr(self, name)), what)
        if self.products is not None and self.quantise is not None:
            raise ValueError(
                f"Recipe: `products` must be None with `quantise`, got {self.products!r}: packed "
                "weights are made whole for every pass. Choose one of the two."
            )

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(f"Recipe: `{name}` must be {what}, got {getattr(self, name)!r}.")
