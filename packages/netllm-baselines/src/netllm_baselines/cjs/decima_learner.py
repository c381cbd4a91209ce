"""Decima's network under training: advantages, and one PPO update (needs the extra `learned`)."""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from netllm_sims.cjs import Episode, Setting, fair, rollout
from numpy import ndarray
from torch import Tensor, nn

from netllm_baselines.cjs.decima import Decima
from netllm_baselines.cjs.decima_batches import Decisions
from netllm_baselines.cjs.decima_episodes import Lane, play
from netllm_baselines.cjs.decima_network import Network
from netllm_baselines.cjs.decima_recipe import DecimaRecipe
from netllm_baselines.cjs.decima_weights import Weights

_SCALE_S = 1000.0
"""Of returns."""


class Learner:
    """The network, its critic, their optimisers and the running average.

    Args:
        setting: Where episodes are played.
        recipe: Sizes, coefficients and rates.
        seed: Of the weights, the sampled actions and the order of minibatches.
    """

    def __init__(self, *, setting: Setting, recipe: DecimaRecipe, seed: int) -> None:
        self._setting, self._recipe = setting, recipe
        self._generator = torch.Generator().manual_seed(seed)
        self._rng = np.random.default_rng([seed, 1])
        self._network = Network(
            hidden=recipe.hidden, score_hidden=recipe.score_hidden, generator=self._generator
        )
        self._critic = _critic(self._generator)
        self._average = copy.deepcopy(self._network).requires_grad_(False)
        self._optimiser = torch.optim.Adam(self._network.parameters(), lr=recipe.rate, eps=1e-5)
        self._critic_optimiser = torch.optim.Adam(self._critic.parameters(), lr=recipe.critic_rate)
        self._done = 0

    def weights(self, **meta: object) -> Weights:
        """The running average of the network."""
        return self._average.weights(**meta)

    def imitate(self, decisions: Decisions) -> Iterator[dict[str, float]]:
        """Learn a teacher's decisions by maximum likelihood; what to log after each pass.

        Those to wait are left out, for the network never does.
        """
        recipe, taught = self._recipe, np.flatnonzero(decisions.actions[:, 0] >= 0)
        optimiser = torch.optim.Adam(self._network.parameters(), lr=recipe.lesson_rate)
        steps = recipe.lesson_epochs * -(-len(taught) // recipe.minibatch)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
        for epoch in range(recipe.lesson_epochs):
            total = 0.0
            for rows in self._minibatches(len(taught)):
                loss = -self._network(decisions.select(taught[rows.numpy()]))[0].mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                total += float(loss.detach()) * len(rows)
            yield {"lesson": epoch + 1.0, "lesson_loss": total / len(taught)}
        self._average.load_state_dict(self._network.state_dict())

    def update(self, episodes: Sequence[Episode], *, left: float) -> dict[str, float]:
        """Play the episodes and learn from them; `left` is the share of training still to come."""
        recipe = self._recipe
        policy = Decima(self._setting, weights=self._network.weights())
        decisions, log_old, lanes = play(policy, self._setting, episodes, self._rng)
        advantage, error = self._advantages(lanes, len(decisions))
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.rate * (0.1 + 0.9 * left)
        old, gains = (torch.from_numpy(a.astype(np.float32)) for a in (log_old, advantage))
        logged = self._improve(decisions, old, gains, entropy=recipe.entropy * left)
        self._done += 1
        keep = min(recipe.average, self._done / (self._done + 9))
        with torch.no_grad():
            both = zip(self._average.parameters(), self._network.parameters(), strict=True)
            for mean, new in both:
                mean.lerp_(new, 1 - keep)
        jct_s = float(np.mean([lane.jct_s for lane in lanes]))
        first = episodes[:: recipe.rollouts]
        fair_s = float(rollout(fair(), self._setting, first).jct_s.mean())
        line = {"train_jct_s": jct_s, "times_fair": jct_s / fair_s, "value_error": error}
        return line | {"decisions": float(len(decisions))} | logged

    def _improve(
        self, decisions: Decisions, old: Tensor, advantage: Tensor, *, entropy: float
    ) -> dict[str, float]:
        sums: dict[str, float] = {}
        steps, kl = 0, 0.0
        for epoch in range(self._recipe.epochs):
            if epoch and kl > self._recipe.target_kl:
                break
            kls = []
            for rows in self._minibatches(len(decisions)):
                line = self._step(decisions, rows, old, advantage, entropy=entropy)
                kls.append(line["kl"])
                steps += 1
                for name, value in line.items():
                    sums[name] = sums.get(name, 0.0) + value
            kl = float(np.mean(kls))
        return {name: total / steps for name, total in sums.items()} | {"steps": float(steps)}

    def _minibatches(self, decisions: int) -> Iterator[Tensor]:
        order = torch.randperm(decisions, generator=self._generator)
        yield from order.split(self._recipe.minibatch)

    def _step(
        self, decisions: Decisions, rows: Tensor, old: Tensor, advantage: Tensor, *, entropy: float
    ) -> dict[str, float]:
        recipe = self._recipe
        log_new, spread = self._network(decisions.select(rows.numpy()))
        gain, before = advantage[rows], old[rows]
        ratio = (log_new - before).exp()
        clipped = ratio.clamp(1 - recipe.clip, 1 + recipe.clip)
        better = torch.minimum(ratio * gain, clipped * gain).mean()
        self._optimiser.zero_grad()
        (-better - entropy * spread.mean()).backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), recipe.max_norm)
        self._optimiser.step()
        shift = (ratio - 1 - (log_new - before)).mean()
        return {"kl": float(shift.detach()), "entropy": float(spread.mean().detach())}

    def _advantages(
        self, lanes: Sequence[Lane], decisions: int
    ) -> tuple[Float[ndarray, "decision"], float]:
        """Generalised advantages in continuous time, normalised, and the critic's mean error.

        The critic sees an episode's state and, at the same time, the returns and states of the
        others of its sequence: these do not depend on its actions, so the gradient is unbiased.
        """
        recipe = self._recipe
        returns = [discounted(lane.reward, lane.time_s, recipe.discount) for lane in lanes]
        seen = torch.from_numpy(
            np.concatenate(
                [_inputs(k, lanes, returns, recipe.rollouts) for k in range(len(lanes))]
            ).astype(np.float32)
        )
        target = torch.from_numpy(np.concatenate(returns).astype(np.float32)) / _SCALE_S
        with torch.no_grad():
            values = (self._critic(seen)[:, 0] + seen[:, 0]).numpy().astype(np.float64) * _SCALE_S
        error = float(np.abs(values / _SCALE_S - target.numpy()).mean())
        advantage, first = np.empty(decisions), 0
        for lane in lanes:
            value = values[first : first + len(lane.rows)]
            first += len(lane.rows)
            wait_s = np.diff(lane.time_s)
            after = np.append(value[1:], 0.0) * np.exp(-recipe.discount * wait_s)
            surprise = lane.reward + after - value
            fade = recipe.discount + recipe.trace
            advantage[lane.rows] = discounted(surprise, lane.time_s, fade)
        self._fit(seen, target)
        scale = np.quantile(np.abs(advantage), 0.9) / 1.64 + 1e-6
        advantage = np.clip(advantage / scale, -4, 4)
        return advantage - advantage.mean(), error

    def _fit(self, seen: Tensor, target: Tensor) -> None:
        for _ in range(4):
            order = torch.randperm(len(seen), generator=self._generator)
            for rows in order.split(1024):
                value = self._critic(seen[rows])[:, 0] + seen[rows, 0]
                loss = nn.functional.huber_loss(value, target[rows])
                self._critic_optimiser.zero_grad()
                loss.backward()
                self._critic_optimiser.step()


def discounted(
    reward: Float[ndarray, "decision"], time_s: Float[ndarray, "decision_and_end"], rate: float
) -> Float[ndarray, "decision"]:
    """Sum of each reward and the later ones, which count less by `rate` per s until they begin."""
    keep = np.exp(-rate * np.diff(time_s))
    result, after = np.empty(len(reward)), 0.0
    for k in range(len(reward) - 1, -1, -1):
        after = reward[k] + keep[k] * after
        result[k] = after
    return result


def _inputs(
    k: int, lanes: Sequence[Lane], returns: Sequence[ndarray], rollouts: int
) -> Float[ndarray, "decision 17"]:
    """Mean return of the sequence's other episodes at the same time, their state, and its own."""
    own, first = lanes[k], k // rollouts * rollouts
    time_s = own.time_s[:-1]
    columns = []
    for other in range(first, first + rollouts):
        if other == k:
            continue
        at = lanes[other].time_s[:-1]
        table = np.column_stack([returns[other] / _SCALE_S, lanes[other].state])
        columns.append([np.interp(time_s, at, column, right=0.0) for column in table.T])
    beside = np.mean(columns, axis=0).T
    return np.concatenate([beside, own.state], axis=1)


def _critic(generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in ((17, 64), (64, 64), (64, 1)):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        nn.init.orthogonal_(layer.weight, 1.4 if outputs > 1 else 0.1, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.Tanh()] if outputs > 1 else [layer]
    return nn.Sequential(*layers)
