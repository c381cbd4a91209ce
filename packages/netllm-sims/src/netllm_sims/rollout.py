"""One loop for every task: whole episodes of a policy, in any environment that runs them together.

Labels, soft labels, random actions, looking ahead and running alone mean the same everywhere since
they are done here.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, Num
from numpy import ndarray

from netllm_sims.session_error import check_answers

_NEAR = 1e-3  # what probabilities in float16 may miss 1 by


@runtime_checkable
class Policy(Protocol):
    """Anything that decides for a batch of episodes; observations have a leading batch axis.

    What else a policy may have is read here and nowhere else:

    | member | default | meaning |
    |---|---|---|
    | `sequential` | False | asks to run alone, episode by episode in order, with one reset: its published numbers depend on state carried across episodes |
    | `begin(running)` | nothing | called after `reset` with what runs, for policies that may know more than the observation |
    | `probabilities(observation)` | none | of every answer, for soft labels |
    | `took(actions)` | nothing | called with what was done where random actions may replace its own |
    """  # noqa: E501

    def reset(self, seed: int) -> None:
        """Forget everything and begin new episodes; random choices follow `seed`."""

    def act(self, observation: Mapping[str, ndarray]) -> Num[ndarray, "batch ..."]:
        """The action of each episode; copy what you keep or change of the observation."""
        ...


def is_sequential(policy: object) -> bool:
    """Whether a policy asks to run alone, episode by episode, with one reset."""
    return bool(getattr(policy, "sequential", False))


def begin(policy: object, running: object) -> None:
    """Show what runs to a policy that may look ahead."""
    if hasattr(policy, "begin"):
        policy.begin(running)


class Environment:
    """Episodes that run side by side and are asked about together.

    Only `observation` and `step` must be written.
    """

    answers: int | None = None
    """How many answers there are, where an action is the number of one of them."""
    soft_labels: ClassVar[str] = "probabilities"
    """The method of a policy that gives more than one answer to learn."""

    def observation(self) -> Mapping[str, ndarray]:
        """What is seen of the episodes that go on, along the first axis.

        A field `reward`, what each last action earned, is added where there is none.
        """
        raise NotImplementedError

    def step(self, actions: ndarray) -> tuple[Num[ndarray, "batch"], Bool[ndarray, "batch"] | bool]:
        """Act in the episodes that go on: their rewards, and whether each (or all) is over."""
        raise NotImplementedError

    def figures(self) -> Mapping[str, Any]:
        """What is measured of the episodes when they are over: by name a value for each of them."""
        return {}

    def final(self) -> Mapping[str, ndarray]:
        """What is seen of every episode when all are over; to be written if they end apart."""
        return self.observation()

    def running(self) -> object:
        """What a policy's `begin` is given."""
        return self

    def run(self, policy: Any) -> int | None:
        """Run the episodes to their end at once, if that is possible with this policy.

        Returns:
            The number of decisions; None: ask it decision by decision.
        """
        return None

    def dice(self, seed: int, number: int) -> np.random.Generator:
        """The random numbers of batch `number`: who acts at random, and how."""
        return np.random.default_rng([seed, number, 1])

    def random_actions(
        self, observation: Mapping[str, ndarray], dice: np.random.Generator, count: int
    ) -> ndarray:
        """A uniformly random action for each of the `count` episodes that go on."""
        if self.answers is None:
            raise ValueError(
                f"Random actions need {type(self).__name__}.answers, the number of answers, or "
                "its method `random_actions`. Leave `epsilon` at 0."
            )
        return dice.integers(self.answers, size=count)

    def check_actions(self, given: ndarray, episodes: Sequence[Any]) -> ndarray:
        """The actions, if every one is the number of an answer.

        Raises:
            ValueError: One is not, with its episode.
        """
        if self.answers is not None:
            _check_numbers(given, episodes, self.answers, "The policy")
        return given

    def check_labels(self, given: ndarray, episodes: Sequence[Any], *, soft: bool) -> ndarray:
        """The labels, if they are numbers of answers, or else probabilities of every answer.

        Raises:
            ValueError: They are not, with the episode.
        """
        if self.answers is not None:
            check = _check_probabilities if soft else _check_numbers
            check(given, episodes, self.answers, "The label policy")
        return given


def _check_numbers(given: ndarray, episodes: Sequence[Any], answers: int, who: str) -> None:
    _check_shape(given, (len(episodes),), "iu", f"{who} must answer with one integer per episode")
    wrong = (given < 0) | (given >= answers)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{who} must answer with a number between 0 and {answers - 1}, got {given[row]} for "
            f"episode `{episodes[row].id}`."
        )


def _check_probabilities(given: ndarray, episodes: Sequence[Any], answers: int, who: str) -> None:
    what = f"{who} must answer with one probability per episode and answer"
    _check_shape(given, (len(episodes), answers), "f", what)
    wrong = ~(abs(np.where(given >= 0, given, np.inf).sum(axis=1) - 1) <= _NEAR)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{who} must answer with probabilities >= 0 that sum to 1, got {given[row]} for "
            f"episode `{episodes[row].id}`."
        )


def _check_shape(given: ndarray, shape: tuple[int, ...], kinds: str, what: str) -> None:
    if given.shape != shape or given.dtype.kind not in kinds:
        raise ValueError(f"{what}, shape {shape}, got {given.dtype} of shape {given.shape}.")


@dataclass(eq=False)
class Batch:
    """What happened in episodes that ran side by side, decision by decision."""

    episodes: Sequence[Any]
    environment: Environment
    asked: list[Int[ndarray, "_"]] = field(default_factory=list)
    """Numbers of the episodes that each decision was about."""
    observations: list[dict[str, ndarray]] = field(default_factory=list)
    """What was seen at each decision; empty unless recorded."""
    actions: list[ndarray] = field(default_factory=list)
    rewards: list[ndarray] = field(default_factory=list)
    labels: list[ndarray] = field(default_factory=list)
    """What the label policy would have done there, if there is one."""
    decisions: int = 0
    """How often the policy was asked about an episode."""
    seconds: float = 0.0
    """Wall time of environment and policies."""

    def order(self) -> tuple[Int[ndarray, "row"], Int[ndarray, "episode"]]:
        """The rows of all decisions under one another, by episode; and how many each has."""
        asked = np.concatenate(self.asked)
        return np.argsort(asked, kind="stable"), np.bincount(asked, minlength=len(self.episodes))

    def by_episode(self, decisions: Sequence[ndarray]) -> list[ndarray]:
        """What is known decision by decision, as an array for each episode."""
        order, counts = self.order()
        return np.split(np.concatenate(decisions)[order], np.cumsum(counts)[:-1])


@dataclass(frozen=True)
class Options:
    """How episodes are rolled out."""

    seed: int = 0
    """Of the policies and the random actions."""
    record: bool = False
    """Keep the observations."""
    label: Policy | None = None
    """A second policy, asked in every visited state without being followed; the same object as the
    first is asked once."""
    soft: bool = False
    """Keep what the label policy's method of `Environment.soft_labels` answers, where it has it."""
    epsilon: float = 0.0
    """Share of actions replaced by uniformly random ones."""
    batch: int | None = None
    """Episodes run at once; all if None, one for sequential policies."""

    def size(self, policy: Policy, count: int) -> int:
        """How many of `count` episodes run at once.

        Raises:
            ValueError: A value outside its range.
        """
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"`epsilon` must lie in [0, 1], got {self.epsilon}.")
        sequential = is_sequential(policy) or is_sequential(self.label)
        if self.batch is not None and (self.batch < 1 or (sequential and self.batch != 1)):
            raise ValueError(
                "`batch` must be >= 1, and 1 for a sequential policy, got "
                f"{self.batch}. Leave it out."
            )
        return 1 if sequential else self.batch or count


def play(
    policy: Policy,
    make: Callable[[Sequence[Any], int], Environment],
    episodes: Sequence[Any],
    options: Options,
) -> Iterator[Batch]:
    """Play each episode once to its end; batch by batch what happened.

    A policy that draws random numbers chooses differently under another batch size.

    Args:
        policy: Decides.
        make: The environment of some episodes, given them and the number of the first one.
        episodes: What to play; each has an `id`.
        options: Seed, label, share of random actions, and the like.

    Raises:
        SessionError: A policy's answer to one episode is NaN or infinite, with the episode.
        ValueError: No episodes, a value outside its range, or an action or label that is none.
    """
    if not episodes:
        raise ValueError("There must be at least one episode, got none.")
    size = options.size(policy, len(episodes))
    for number, first in enumerate(range(0, len(episodes), size)):
        start = time.perf_counter()
        some = episodes[first : first + size]
        batch = Batch(some, make(some, first))
        for one in (policy, options.label):
            if one is None:
                continue
            if number == 0 or not is_sequential(one):
                one.reset(batch_seed(options.seed, number))
            begin(one, batch.environment.running())
        _play(batch, policy, options, number)
        batch.seconds = time.perf_counter() - start
        yield batch


def batch_seed(seed: int, number: int) -> int:
    """The seed that policies are reset with for the batch of that number."""
    if number == 0:
        return seed
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _play(batch: Batch, policy: Policy, options: Options, number: int) -> None:
    """Ask and act until every episode of the batch is over."""
    environment = batch.environment
    plain = not (options.record or options.label or options.epsilon)
    if plain and (decisions := environment.run(policy)) is not None:
        batch.decisions = decisions
        return
    dice = environment.dice(options.seed, number)
    running, episodes = np.arange(len(batch.episodes)), batch.episodes
    rewards: ndarray = np.zeros(len(running), np.float32)
    while len(running):
        observation = {**environment.observation()}
        if "reward" not in observation:
            observation["reward"] = rewards.astype(np.float32)
        if options.record:
            batch.observations.append({name: np.array(v) for name, v in observation.items()})
        answers = np.asarray(policy.act({**observation}))
        if answers.dtype.kind == "f":
            check_answers(answers, [one.id for one in episodes], "action")
        actions = environment.check_actions(answers, episodes)
        if options.label is not None:
            asked = policy, options.label, answers
            batch.labels.append(_labels(environment, asked, observation, episodes, options.soft))
        if options.epsilon:
            actions = _stray(environment, observation, dice, actions, options.epsilon)
            if hasattr(policy, "took"):
                policy.took(actions)
        rewards, over = environment.step(actions)
        batch.decisions += len(running)
        batch.asked.append(running)
        batch.actions.append(np.array(actions))
        batch.rewards.append(rewards)
        if np.any(over):
            goes_on = ~np.broadcast_to(over, running.shape)
            running, rewards = running[goes_on], rewards[goes_on]
            episodes = [batch.episodes[k] for k in running]


def _labels(
    environment: Environment,
    asked: tuple[Policy, Policy, ndarray],
    observation: Mapping[str, ndarray],
    episodes: Sequence[Any],
    soft: bool,
) -> ndarray:
    """What the label policy answers; the driver itself is not asked twice for the same."""
    policy, label, answers = asked
    several = getattr(label, environment.soft_labels, None) if soft else None
    if several is not None:
        given = several({**observation})
    else:
        given = answers if label is policy else label.act({**observation})
    return environment.check_labels(np.array(given), episodes, soft=several is not None)


def _stray(
    environment: Environment,
    observation: Mapping[str, ndarray],
    dice: np.random.Generator,
    actions: ndarray,
    epsilon: float,
) -> ndarray:
    """The actions, a share of them replaced by random ones."""
    others = environment.random_actions(observation, dice, len(actions))
    strays = dice.random(len(actions)) < epsilon
    return np.where(strays.reshape(-1, *[1] * (actions.ndim - 1)), others, actions)
