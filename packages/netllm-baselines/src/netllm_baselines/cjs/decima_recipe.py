"""The numbers of a training run of Decima."""

from dataclasses import dataclass

from netllm_baselines._recipes_and_best_weights import check_recipe, whole_fields

TEACHERS = ("tuned-share", "decima", "")


@dataclass(frozen=True, kw_only=True)
class DecimaRecipe:
    """How Decima's extended network is trained; the file of the shipped weights holds theirs.

    Clipping, discount and the network's widths are the published ones.
    """

    teacher: str = "tuned-share"
    """A policy that is imitated first: `tuned-share`, `decima`, or empty for random weights."""
    lessons: int = 100_000
    """Decisions of the teacher that are imitated."""
    lesson_epochs: int = 5
    """Passes over them."""
    lesson_rate: float = 3e-3
    """First learning rate of Adam in the lessons; falls linearly to 0."""
    hidden: int = 32
    """First hidden width of the perceptrons that embed stages, jobs and the whole."""
    score_hidden: int = 64
    """Both hidden widths of the perceptrons that score."""
    sequences: int = 4
    """Job sequences of one update."""
    rollouts: int = 4
    """Episodes of each, with the same luck of durations."""
    first_jobs: int = 30
    """Jobs of an episode at first: a random part of a training sequence."""
    last_jobs: int = 40
    """Jobs of an episode from half of the training on; between, the number grows linearly."""
    load_low: float = 0.9
    """Least factor on the arrival rate of an episode."""
    load_high: float = 1.3
    """Largest factor."""
    discount: float = 5e-3
    """Rate at which a later reward counts less, per s."""
    trace: float = 0.02
    """Rate at which the critic takes over in generalised advantage estimation, per s."""
    rate: float = 5e-4
    """First learning rate of Adam; falls linearly to a tenth."""
    critic_rate: float = 1e-3
    """Learning rate of the critic's Adam."""
    entropy: float = 0.001
    """First weight of the entropy bonus; falls linearly to 0."""
    clip: float = 0.2
    """Largest useful change of a probability ratio."""
    epochs: int = 3
    """Passes over the decisions of one update, fewer if `target_kl` is passed."""
    minibatch: int = 512
    """Decisions per gradient step."""
    target_kl: float = 0.02
    """Mean drop of log-probability that ends an update's passes."""
    max_norm: float = 0.5
    """Gradients are scaled down to this norm."""
    average: float = 0.95
    """Weight of the past in the running average of the network, per update."""
    validate_every: int = 12
    """Updates between two validations."""

    def __post_init__(self) -> None:
        """Reject numbers that no training could use.

        Raises:
            ValueError: A count below 1, a share outside [0, 1), a range out of order, or a
                number that must be positive and is not.
        """
        check_recipe(
            self,
            counts=whole_fields(self),
            positive=("rate", "critic_rate", "lesson_rate", "clip", "target_kl", "max_norm"),
            not_negative=("discount", "trace", "entropy"),
            shares_below_1=("average",),
        )
        if self.teacher not in TEACHERS:
            raise ValueError(
                f"`teacher` must be one of {', '.join(map(repr, TEACHERS))}, got {self.teacher!r}."
            )
        if self.rollouts < 2:
            raise ValueError(f"`rollouts` must be at least 2 to compare, got {self.rollouts}.")
        if self.first_jobs > self.last_jobs:
            raise ValueError(
                f"`first_jobs` must be at most `last_jobs`, got {self.first_jobs} and "
                f"{self.last_jobs}."
            )
        if not 0 < self.load_low <= self.load_high:
            raise ValueError(
                "`load_low` must be positive and at most `load_high`, "
                f"got {self.load_low} and {self.load_high}."
            )
