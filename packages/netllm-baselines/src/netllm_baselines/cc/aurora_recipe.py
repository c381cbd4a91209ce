"""The numbers of an Aurora training run."""

from dataclasses import dataclass

from netllm_baselines._recipes_and_best_weights import check_recipe, whole_fields


@dataclass(frozen=True, kw_only=True)
class AuroraRecipe:
    """How an actor is trained by PPO."""

    hidden: int = 128
    """Width of each hidden layer, of the actor and of the critic."""
    layers: int = 2
    """Hidden layers of each."""
    links: int = 128
    """Links played in parallel for one update."""
    least_reward: float = -1.0
    """Rewards below count as this: a flood of losses teaches no more than a few."""
    discount: float = 0.99
    """Of a reward one interval later (gamma)."""
    trace: float = 0.95
    """Lambda of generalised advantage estimation."""
    rate: float = 5e-4
    """First learning rate of Adam; falls linearly to 0."""
    entropy: float = 0.01
    """First weight of the entropy bonus; falls linearly to 0."""
    clip: float = 0.2
    """Largest useful change of a probability ratio."""
    epochs: int = 3
    """Passes over the links of one update."""
    minibatch: int = 4096
    """Decisions per gradient step."""
    max_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    validate_every: int = 10
    """Updates between two validations."""

    def __post_init__(self) -> None:
        """Reject numbers that no training could use.

        Raises:
            ValueError: A count below 1, or a share outside [0, 1].
        """
        check_recipe(
            self,
            counts=whole_fields(self),
            positive=("rate", "clip", "max_norm"),
            not_negative=("entropy",),
            shares=("discount", "trace"),
        )
