"""The numbers of a training run of a viewport predictor."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained on windows; what the GRU and TRACK do not change."""

    hidden: int = 256
    """Width of the recurrent states."""
    epochs: int = 4
    """Passes over the training windows."""
    batch: int = 128
    """Windows per gradient step."""
    rate: float = 1e-3
    """Peak of the one-cycle learning rate of AdamW."""
    weight_decay: float = 0.01
    """Of AdamW."""
    dropout: float = 0.0
    """Share of the last state that is hidden in training."""
    blur: float = 0.0
    """Sigma of noise on the sines and cosines of where the head points, in training."""
    train_stride: int = 5
    """Points between training windows; 0 takes the setting's."""
    mirror: bool = True
    """Show half of the windows in a mirror along the front."""
    average: float = 0.99
    """Weight of the past in the running average that is validated, per step; 0 for none."""
    keep_best: bool = False
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
