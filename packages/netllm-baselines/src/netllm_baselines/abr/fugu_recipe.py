"""The numbers of a training of Fugu's predictor."""

from dataclasses import dataclass

from netllm_baselines._recipes_and_best_weights import check_recipe, whole_fields
from netllm_baselines.abr.session_recipe import SessionRecipe


@dataclass(frozen=True, kw_only=True)
class FuguRecipe(SessionRecipe):
    """How the predictor of download times is trained.

    The shipped weights were made with `traces="http"` (fcc-train also holds logs of moving phones,
    fcc-test is broadband only).
    """

    hidden: int = 64
    """Width of each hidden layer."""
    layers: int = 2
    """Hidden layers."""
    worlds: str = "wide"
    epsilon: float = 0.2
    """Share of random levels while they are played."""
    passes: int = 10
    """Passes over all downloads."""
    rate: float = 2e-3
    """First learning rate of Adam; falls linearly to 0."""

    def __post_init__(self) -> None:
        """Reject numbers that no training could use.

        Raises:
            ValueError: A count below 1, a share outside [0, 1], or a rate that is not positive.
        """
        super().__post_init__()
        check_recipe(
            self,
            counts=whole_fields(self),
            positive=("rate",),
            not_negative=(),
            shares=("epsilon",),
        )
