"""The numbers of a training run of a viewport predictor."""

from dataclasses import dataclass

from netllm_baselines._recipes_and_best_weights import check_recipe


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
            ValueError: A count below 1, a rate that is not positive, a share outside [0, 1).
        """
        check_recipe(
            self,
            counts=("hidden", "epochs", "batch"),
            positive=("rate", "max_norm"),
            not_negative=("weight_decay", "blur", "train_stride"),
            shares_below_1=("dropout", "average"),
        )
