"""The numbers of a training in randomised worlds."""

from dataclasses import dataclass

from netllm_baselines._recipes_and_best_weights import check_recipe, whole_fields
from netllm_baselines.abr.ppo_recipe import PPORecipe


@dataclass(frozen=True, kw_only=True)
class PPOWideRecipe:
    """How an actor is trained in randomised worlds: it imitates first, then learns in two stages.

    The shipped weights for `default` were made with `traces="http"` (fcc-train also holds logs of
    moving phones, fcc-test is broadband only).
    """

    hidden: int = 384
    """Width of each hidden layer, of the actor and of the critic."""
    layers: int = 2
    """Hidden layers of each."""
    sessions: int = 384
    """Sessions played in parallel for one update."""
    traces: str = ""
    """Learn from, and validate on, only traces with this text in their name."""
    rounds: int = 5
    """Rounds of imitation: the actor plays, the teacher says what it would have done."""
    round_sessions: int = 480
    """Sessions of a round."""
    round_passes: int = 6
    """Passes over the sessions of all rounds so far."""
    round_rate: float = 1e-3
    """Learning rate of Adam; falls to 0 in every round."""
    first_share: float = 0.215
    """Share of the steps that the first stage takes."""
    first_near: float = 0.5
    """Share of its sessions, and of those of the imitation, that are altered as `PPO`'s are; the
    others are played in randomised worlds."""
    first_rate: float = 2e-4
    """Its first learning rate; falls linearly to 0."""
    first_entropy: float = 0.01
    """Its first weight of the entropy bonus; falls linearly to 0."""
    then_near: float = 0.4
    """The same share in the second stage."""
    then_rate: float = 3.5e-4
    """Its first learning rate."""
    then_entropy: float = 0.015
    """Its first weight of the entropy bonus."""
    critic_first: int = 5
    """Updates after the imitation in which only the critic learns."""
    balance: float = 0.5
    """Weight of sessions where little is at stake (see `PPORecipe`)."""
    discount: float = 1.0
    """Of a reward one chunk later (gamma)."""
    validate_every: int = 20
    """Updates between two validations, after each of which the training can go on later."""
    validation_sessions: int = 800
    """Sessions of the validation part, with fixed random start points, played as they are and again
    in randomised worlds."""
    plain_weight: float = 0.5
    """Weight of the former in the choice of the best update."""

    def __post_init__(self) -> None:
        """Reject numbers that no training could use.

        Raises:
            ValueError: A count below 1, or a share outside [0, 1].
        """
        check_recipe(
            self,
            counts=[name for name in whole_fields(self) if name != "critic_first"],
            positive=("round_rate", "first_rate", "then_rate"),
            not_negative=("first_entropy", "then_entropy", "critic_first"),
            shares=("first_near", "then_near", "discount", "plain_weight", "balance"),
            shares_below_1=("first_share",),
        )

    def stages(self) -> tuple[PPORecipe, PPORecipe]:
        """The two stages as recipes of `PPO`'s training."""
        return (
            self._stage(self.first_near, self.first_rate, self.first_entropy, self.critic_first),
            self._stage(self.then_near, self.then_rate, self.then_entropy, 0),
        )

    def _stage(self, near: float, rate: float, entropy: float, critic_first: int) -> PPORecipe:
        return PPORecipe(
            hidden=self.hidden,
            layers=self.layers,
            sessions=self.sessions,
            traces=self.traces,
            worlds="wide",
            worlds_share=1 - near,
            balance=self.balance,
            discount=self.discount,
            rate=rate,
            entropy=entropy,
            critic_first=critic_first,
            validation_sessions=self.validation_sessions,
        )
