"""Which sessions a learned rival is trained and validated on, in numbers."""

from dataclasses import dataclass

from netllm_baselines._recipes_and_best_weights import check_recipe


@dataclass(frozen=True, kw_only=True)
class SessionRecipe:
    """How sessions are drawn and altered; every training of a rival has these fields."""

    traces: str = ""
    """Learn from, and validate on, only traces with this text in their name."""
    worlds: str = ""
    """Name of the randomised worlds (`wide`) that a share of the sessions is played in."""
    worlds_share: float = 0.0
    """That share; the others are scaled and altered as the following numbers say."""
    scale_share: float = 0.7
    """Share of the sessions whose bandwidth is scaled."""
    scale_low: float = 0.5
    """Smallest factor on their bandwidth."""
    scale_high: float = 1.8
    """Largest factor on their bandwidth."""
    alter_share: float = 0.8
    """Share of the sessions whose trace is altered in the following ways."""
    stretch: float = 0.5
    """Time runs up to e to this power faster or slower."""
    noise: float = 0.3
    """Largest sigma of log-normal noise on the bandwidth."""
    noise_points: int = 10
    """Longest run of points that share their noise."""
    splice_share: float = 0.3
    """Share of the altered traces that go over into another trace during the session."""
    validation_sessions: int = 200
    """Sessions of the validation part, with fixed random start points."""

    def __post_init__(self) -> None:
        """Reject numbers by which no session could be drawn.

        Raises:
            ValueError: A count below 1, a share outside [0, 1], or a scale out of order.
        """
        check_recipe(
            self,
            counts=("noise_points", "validation_sessions"),
            positive=(),
            not_negative=("stretch", "noise"),
            shares=("worlds_share", "scale_share", "alter_share", "splice_share"),
        )
        if not 0 < self.scale_low <= self.scale_high:
            raise ValueError(
                "`scale_low` must be positive and at most `scale_high`, "
                f"got {self.scale_low} and {self.scale_high}."
            )
