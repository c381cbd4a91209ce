"""The numbers of a PPO training run."""

from dataclasses import dataclass

from netllm_baselines._recipes_and_best_weights import check_recipe, whole_fields
from netllm_baselines.abr.session_recipe import SessionRecipe


@dataclass(frozen=True, kw_only=True)
class PPORecipe(SessionRecipe):
    """How an actor is trained.

    The shipped weights were made with these numbers but for two: `default` has `traces="http"`
    (fcc-train also holds logs of moving phones, fcc-test is broadband only), `synthetic` has
    `discount=0.99`. Their files remember their recipe and command.
    """

    hidden: int = 384
    """Width of each hidden layer, of the actor and of the critic."""
    layers: int = 2
    """Hidden layers of each."""
    sessions: int = 384
    """Sessions played in parallel for one update."""
    reward_scale: float = 5.0
    """Divides the QoE of a chunk."""
    discount: float = 1.0
    """Of a reward one chunk later (gamma)."""
    trace: float = 0.95
    """Lambda of generalised advantage estimation."""
    balance: float = 0.0
    """Weight of sessions where little is at stake: advantages are divided by their spread within
    the session to this power, and by that of all sessions to the rest of 1."""
    rate: float = 5e-4
    """First learning rate of Adam; falls linearly to 0."""
    entropy: float = 0.02
    """First weight of the entropy bonus; falls linearly to 0."""
    clip: float = 0.2
    """Largest useful change of a probability ratio."""
    critic_first: int = 0
    """Updates at the beginning in which only the critic learns."""
    epochs: int = 2
    """Passes over the sessions of one update."""
    minibatch: int = 2048
    """Decisions per gradient step."""
    max_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    average: float = 0.99
    """Weight of the past in the running average of the actor, per update."""
    validate_every: int = 20
    """Updates between two validations."""
    validation_sessions: int = 800

    def __post_init__(self) -> None:
        """Reject numbers that no training could use.

        Raises:
            ValueError: A count below 1, a share outside [0, 1], or a scale out of order.
        """
        super().__post_init__()
        check_recipe(
            self,
            counts=[name for name in whole_fields(self) if name != "critic_first"],
            positive=("reward_scale", "rate", "clip", "max_norm"),
            not_negative=("entropy", "critic_first"),
            shares=("discount", "trace", "average", "balance"),
        )
