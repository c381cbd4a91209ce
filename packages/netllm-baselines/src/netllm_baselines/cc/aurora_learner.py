"""Aurora's actor, critic and one PPO update, in torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from netllm_sims.cc import FACTORS, Link, Simulator
from torch import Tensor, nn

from netllm_baselines._ppo_update import Step, advantages, perceptron, scaled
from netllm_baselines.cc.aurora_features import WIDTH, features
from netllm_baselines.cc.aurora_recipe import AuroraRecipe
from netllm_baselines.perceptron import CUT, Perceptron


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Whole episodes driven by the actor, decisions flattened."""

    seen: Float[Tensor, "decision feature"]
    action: Int[Tensor, " decision"]
    log_probability: Float[Tensor, " decision"]
    advantage: Float[Tensor, " decision"]
    target: Float[Tensor, " decision"]


class Learner:
    """The networks under training and their optimiser.

    Args:
        intervals: Length of an episode.
        recipe: Sizes, coefficients and rates.
        updates: How many calls of `update` the schedules stretch over.
        seed: Of the weights, the sampled factors and the order of minibatches.
    """

    def __init__(self, *, intervals: int, recipe: AuroraRecipe, updates: int, seed: int) -> None:
        self._intervals, self._recipe, self._updates = intervals, recipe, updates
        self._generator = torch.Generator().manual_seed(seed)
        self._done = 0
        hidden = [recipe.hidden] * recipe.layers
        self._actor, self._critic = (
            perceptron(WIDTH, hidden, outputs, gain=gain, generator=self._generator)
            for outputs, gain in ((len(FACTORS), 0.01), (1, 1.0))
        )
        self._parameters = [*self._actor.parameters(), *self._critic.parameters()]
        self._optimiser = torch.optim.Adam(self._parameters, lr=recipe.rate, eps=1e-5)

    def actor(self, **meta: object) -> Perceptron:
        """The actor, ready to save."""
        zeros, ones = np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32)
        return Perceptron.of(self._actor, mean=zeros, std=ones, meta=meta)

    def update(self, links: Sequence[Link]) -> dict[str, float]:
        """Play the links and learn from them; returns what to log."""
        recipe, left = self._recipe, 1 - self._done / self._updates
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.rate * left
        batch, worth = self._collect(links)
        spreads = []
        for _ in range(recipe.epochs):
            order = torch.randperm(len(batch.action), generator=self._generator)
            for rows in order.split(recipe.minibatch):
                spreads.append(self._learn(batch, rows, entropy=recipe.entropy * left))
        self._done += 1
        return {"train_utility": worth, "entropy": float(np.mean(spreads))}

    def _learn(self, batch: Batch, rows: Tensor, *, entropy: float) -> float:
        """One gradient step on some decisions; the entropy of the answers there."""
        recipe = self._recipe
        seen = batch.seen[rows]
        step = Step.of(
            self._actor(seen),
            batch.action[rows],
            log_probability=batch.log_probability[rows],
            advantage=batch.advantage[rows],
            clip=recipe.clip,
        )
        error = nn.functional.huber_loss(self._critic(seen)[:, 0], batch.target[rows])
        self._optimiser.zero_grad()
        (error - step.gain - entropy * step.entropy).backward()
        nn.utils.clip_grad_norm_(self._parameters, recipe.max_norm)
        self._optimiser.step()
        return float(step.entropy.detach())

    @torch.no_grad()
    def _collect(self, links: Sequence[Link]) -> tuple[Batch, float]:
        """Episodes under the actor with their advantages, and the mean utility."""
        recipe = self._recipe
        seen, action, reward = self._play(links)
        log_all = self._actor(seen).log_softmax(2)
        value = self._critic(seen)[..., 0]
        # in units of a mean reward: what a discounted sum of them comes to is of order one
        earned = (1 - recipe.discount) * reward.clamp(min=recipe.least_reward)
        advantage = advantages(earned, value, discount=recipe.discount, trace=recipe.trace)
        batch = Batch(
            seen=seen.flatten(0, 1),
            action=action.flatten(),
            log_probability=log_all.gather(2, action[..., None]).flatten(),
            advantage=scaled(advantage, 0.0).flatten(),
            target=(advantage + value).flatten(),
        )
        return batch, float(reward.mean())

    def _play(self, links: Sequence[Link]) -> tuple[Tensor, Tensor, Tensor]:
        """Features, sampled factors and rewards, each (interval, link, …)."""
        simulator = Simulator(links, self._intervals)
        observation = simulator.reset()
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for _ in range(self._intervals):
            seen = torch.from_numpy(features(observation)).clamp(-CUT, CUT)
            odds = self._actor(seen).softmax(1)
            action = torch.multinomial(odds, 1, generator=self._generator)[:, 0]
            observation, earned, _ = simulator.step(action.numpy())
            rows.append((seen, action, torch.from_numpy(earned)))
        seen, action, reward = (torch.stack(column) for column in zip(*rows, strict=True))
        return seen, action, reward
