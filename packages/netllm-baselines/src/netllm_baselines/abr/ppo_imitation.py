"""An actor that imitates a policy in the states that the actor itself visits."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from netllm_sims.abr import Policy, Session, Setting, rollout
from torch import Tensor, nn

from netllm_baselines._ppo_update import perceptron
from netllm_baselines.abr.ppo import PPO
from netllm_baselines.abr.ppo_features import features
from netllm_baselines.abr.ppo_wide_recipe import PPOWideRecipe
from netllm_baselines.abr.training_sessions import training
from netllm_baselines.perceptron import CUT, Perceptron

_log = logging.getLogger(__name__)
_MINIBATCH = 1024
_EPSILON = 0.1
"""Share of random levels while the teacher plays."""


def imitate(teacher: Policy, setting: Setting, *, recipe: PPOWideRecipe, seed: int) -> Perceptron:
    """An actor that answers with the teacher's probabilities.

    In the first round the teacher plays, in the others the actor as it is by then; the teacher says
    in every state with which probability it would have taken each level, and the actor learns from
    the states of all rounds so far.

    Source: Ross et al., "A Reduction of Imitation Learning and Structured Prediction to No-Regret
        Online Learning", AISTATS 2011 (DAgger).

    Args:
        teacher: What is imitated; it has `probabilities(observation)`.
        setting: Where the sessions are played.
        recipe: Sizes, rates, and the share of sessions that are not randomised.
        seed: Of everything random.
    """
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng([seed, 0])
    stage = recipe.stages()[0]
    driver, epsilon, network = teacher, _EPSILON, None
    seen, wanted = [], []
    for number in range(recipe.rounds):
        some = training(setting, recipe.round_sessions, recipe=stage, rng=rng)
        states, labels = _ask(teacher, driver, setting, some, seed=seed + number, epsilon=epsilon)
        seen.append(states)
        wanted.append(labels)
        if network is None:
            hidden = [recipe.hidden] * recipe.layers
            network = Imitator(states, labels.shape[1], hidden=hidden, generator=generator)
        error = network.learn(
            np.concatenate(seen),
            np.concatenate(wanted),
            passes=recipe.round_passes,
            rate=recipe.round_rate,
        )
        _log.info("imitation, round %d of %d: error %.4f", number + 1, recipe.rounds, error)
        driver, epsilon = PPO(setting, sample=True, weights=network.actor()), 0.0
    assert network is not None
    return network.actor()


def _ask(
    teacher: Policy,
    driver: Policy,
    setting: Setting,
    sessions: Sequence[Session],
    *,
    seed: int,
    epsilon: float,
) -> tuple[Float[np.ndarray, "decision feature"], Float[np.ndarray, "decision level"]]:
    """What the actor sees in the states that the driver visits, and the teacher's probabilities."""
    played = rollout(
        driver,
        setting,
        sessions,
        seed=seed,
        record=True,
        label=teacher,
        soft=True,
        epsilon=epsilon,
    )
    assert played.labels is not None
    flat = {
        name: values.reshape(-1, *values.shape[2:]) for name, values in played.observations.items()
    }
    labels = played.labels.reshape(-1, played.labels.shape[-1])
    return features(flat), labels.astype(np.float32)


class Imitator:
    """An actor under training that learns to answer with somebody's probabilities.

    Args:
        states: The features by whose mean and spread all are standardised.
        levels: Rates of the ladder.
        hidden: Widths of the hidden layers.
        generator: Draws the first weights and the order of minibatches.
    """

    def __init__(
        self,
        states: Float[np.ndarray, "decision feature"],
        levels: int,
        *,
        hidden: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        self._generator = generator
        self._mean = states.mean(axis=0)
        self._std = np.maximum(states.std(axis=0), 0.1)
        self._network = perceptron(states.shape[1], hidden, levels, gain=0.01, generator=generator)

    def begin_with(self, actor: Perceptron) -> None:
        """Take an actor's weights, and the mean and spread of its features."""
        self._mean, self._std = actor.mean, actor.std
        actor.copy_into(self._network)

    def learn(
        self,
        states: Float[np.ndarray, "decision feature"],
        wanted: Float[np.ndarray, "decision level"],
        *,
        passes: int,
        rate: float,
    ) -> float:
        """Mean cross-entropy of the last of some passes; the rate of Adam falls to 0."""
        standard = torch.from_numpy((states - self._mean) / self._std).clamp(-CUT, CUT)
        targets = torch.from_numpy(wanted)
        return learn(
            self._network, standard, targets, passes=passes, rate=rate, generator=self._generator
        )

    def actor(self, **meta: object) -> Perceptron:
        """The network as it is, ready to play and to save."""
        return Perceptron.of(self._network, mean=self._mean, std=self._std, meta=meta)


def learn(
    network: nn.Module,
    inputs: Float[Tensor, "decision feature"],
    targets: Float[Tensor, "decision level"],
    *,
    passes: int,
    rate: float,
    generator: torch.Generator,
    minibatch: int = _MINIBATCH,
) -> float:
    """Teach a network somebody's probabilities; mean cross-entropy of the last pass.

    Args:
        network: What learns, in place.
        inputs: What it sees.
        targets: Probability of each answer.
        passes: Passes over all decisions.
        rate: First learning rate of Adam; it falls to 0.
        generator: Draws the order of minibatches.
        minibatch: Decisions per gradient step.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    steps = passes * -(-len(inputs) // minibatch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, steps)
    total = 0.0
    for _ in range(passes):
        total = 0.0
        for rows in torch.randperm(len(inputs), generator=generator).split(minibatch):
            error = nn.functional.cross_entropy(network(inputs[rows]), targets[rows])
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
            schedule.step()
            total += float(error.detach()) * len(rows)
    return total / len(inputs)
