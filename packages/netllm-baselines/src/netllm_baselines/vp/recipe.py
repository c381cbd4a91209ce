"""The numbers of a training run of a viewport predictor."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained on windows; the default, chosen on validation, is the GRU's."""

    hidden: int = 256
    """Width of the recurrent states."""
    epochs: int = 4
    """Passes over the training windows."""
    batch: int = 64
    """Windows per gradient step."""
    rate: float = 1e-3
    """Peak of the one-cycle learning rate of AdamW."""
    weight_decay: float = 0.01
    """Of AdamW."""
    dropout: float = 0.3
    """Share of the last state that is hidden in training."""
    blur: float = 0.3
    """Sigma of noise on the sines and cosines of where the head points, in training."""
    train_stride: int = 5
    """Points between training windows; 0 takes the setting's."""
    mirror: bool = True
    """Show half of the windows mirrored: left for right."""
    average: float = 0.99
    """Weight of the past in the running average that is validated, per step; 0 for none."""
    keep_best: bool = True
    """Keep the epoch with the least validation error; else the last, whose rate has come to 0."""
    max_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        """Reject numbers that no training could use.

        Raises:
            ValueError: a count below 1, a rate that is not positive, a share outside [0, 1).
        """
        for name in ("hidden", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("rate", "max_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}.")
        for name in ("weight_decay", "blur", "train_stride"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")
        for name in ("dropout", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must lie in [0, 1), got {getattr(self, name)}.")


def override(recipe: Recipe, values: Mapping[str, int | float | str | bool]) -> Recipe:
    """The recipe with single fields replaced.

    Raises:
        ValueError: there is no such field, or the value has another type.
    """
    known = {field.name: type(field.default) for field in fields(recipe)}
    for name, value in values.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"`{name}` is no field of the recipe.{hint} Known: {', '.join(known)}."
            )
        if type(value) is not known[name] and (known[name], type(value)) != (float, int):
            raise ValueError(f"`{name}` must be a {known[name].__name__}, got {value!r}.")
    return replace(recipe, **values)  # type: ignore[arg-type]
