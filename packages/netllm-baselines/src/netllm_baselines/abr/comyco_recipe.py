"""The numbers of a training of Comyco."""

from dataclasses import dataclass

from netllm_baselines._recipes_and_best_weights import check_recipe, whole_fields
from netllm_baselines.abr.session_recipe import SessionRecipe


@dataclass(frozen=True, kw_only=True)
class ComycoRecipe(SessionRecipe):
    """How Comyco is trained.

    The shipped weights were made with `traces="http"` (fcc-train also holds logs of moving phones,
    fcc-test is broadband only).
    """

    horizon: int = 16
    """Chunks that the expert looks ahead; in the paper 8."""
    width: int = 500
    """States of the expert's search that are kept per chunk."""
    worlds: str = "wide"
    rounds: int = 12
    """Rounds: the network plays, the expert says what it would have done."""
    epsilon: float = 0.1
    """Share of random levels while they are played."""
    passes: int = 4
    """Passes over the decisions of all rounds so far."""
    rate: float = 1e-3
    """First learning rate of Adam; falls linearly to 0 in every round."""
    minibatch: int = 128
    """Decisions per gradient step."""

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
