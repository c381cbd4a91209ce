"""Actor, critic and one PPO update, in torch."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from netllm_sims.abr import Session, Setting, Simulator
from torch import Tensor, nn

from netllm_baselines.abr.ppo_features import HORIZONS_S, Future, features, width
from netllm_baselines.abr.ppo_recipe import PPORecipe
from netllm_baselines.abr.ppo_weights import Actor

CUT = 5.0
"""Standardised features are cut to minus and plus this."""
_LEAST_SPREAD = 0.05


def perceptron(
    inputs: int, hidden: Sequence[int], outputs: int, *, gain: float, generator: torch.Generator
) -> nn.Sequential:
    """Linear layers with ReLU between them, orthogonal weights and zero biases."""
    sizes = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        layer = torch.nn.utils.skip_init(nn.Linear, a, b)
        last = i == len(hidden)
        nn.init.orthogonal_(layer.weight, gain if last else 2**0.5, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer] if last else [layer, nn.ReLU()]
    return nn.Sequential(*layers)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Whole sessions driven by the actor; standardised inputs, decisions flattened."""

    seen: Float[Tensor, "decision feature"]
    future: Float[Tensor, "decision window"]
    action: Int[Tensor, " decision"]
    log_probability: Float[Tensor, " decision"]
    advantage: Float[Tensor, " decision"]
    target: Float[Tensor, " decision"]
    qoe: float


class Learner:
    """The networks under training, their optimiser and their running average.

    Args:
        setting: where the sessions are played.
        recipe: sizes, coefficients and rates.
        updates: how many calls of `update` the schedules stretch over.
        seed: of the weights, the sampled levels and the order of minibatches.
    """

    def __init__(self, *, setting: Setting, recipe: PPORecipe, updates: int, seed: int) -> None:
        self._setting, self._recipe, self._updates = setting, recipe, updates
        self._generator = torch.Generator().manual_seed(seed)
        self._done = 0
        levels = len(setting.video.rates_kbps)
        hidden, seen = [recipe.hidden] * recipe.layers, width(levels)
        self._shift: Float[np.ndarray, "2 feature"] = np.stack([np.zeros(seen), np.ones(seen)])
        self._shift = self._shift.astype(np.float32)
        self._actor = perceptron(seen, hidden, levels, gain=0.01, generator=self._generator)
        self._critic = perceptron(
            seen + len(HORIZONS_S) - 1, hidden, 1, gain=1.0, generator=self._generator
        )
        self._average = copy.deepcopy(self._actor).requires_grad_(False)
        self._parameters = [*self._actor.parameters(), *self._critic.parameters()]
        self._optimiser = torch.optim.Adam(self._parameters, lr=recipe.rate, eps=1e-5)

    def standardise_from(self, sessions: Sequence[Session]) -> None:
        """Fix mean and spread of the features to those of uniformly random levels."""
        seen = self._play(sessions)[0].reshape(-1, self._shift.shape[1])
        self._shift = np.stack([seen.mean(axis=0), np.maximum(seen.std(axis=0), 0.1)])

    def actor(self, **meta: object) -> Actor:
        """The running average of the actor, ready to save."""
        return Actor.of(self._average, mean=self._shift[0], std=self._shift[1], meta=meta)

    def seed(self, seed: int) -> None:
        """Start the stream of sampled levels and minibatches anew."""
        self._generator.manual_seed(seed)

    def begin_with(self, actor: Actor) -> None:
        """Take an actor's weights, and the mean and spread of its features."""
        self._shift = np.stack([actor.mean, actor.std])
        for network in (self._actor, self._average):
            actor.copy_into(network)

    def take_critic(self, other: "Learner") -> None:
        """Take the critic of another learner."""
        self._critic.load_state_dict(other._critic.state_dict())

    def state(self) -> dict[str, np.ndarray]:
        """All that `restore` needs: networks, spread of the features, Adam's moments, updates."""
        tensors = {
            **{f"actor.{name}": t for name, t in self._actor.state_dict().items()},
            **{f"critic.{name}": t for name, t in self._critic.state_dict().items()},
            **{f"average.{name}": t for name, t in self._average.state_dict().items()},
        }
        for number, moments in self._optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": t for name, t in moments.items()}
        arrays = {name: tensor.numpy().copy() for name, tensor in tensors.items()}
        return arrays | {"shift": self._shift, "done": np.array(float(self._done))}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on where another learner with the same settings was when `state` was called."""
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}
        for name in ("actor", "critic", "average"):
            network: nn.Module = getattr(self, f"_{name}")
            network.load_state_dict(_inner(tensors, name))
        adam = self._optimiser.state_dict()
        adam["state"] = {
            number: _inner(tensors, f"adam.{number}") for number in range(len(self._parameters))
        }
        self._optimiser.load_state_dict(adam if arrays["done"] else self._optimiser.state_dict())
        self._shift, self._done = arrays["shift"], int(arrays["done"])

    def update(self, sessions: Sequence[Session]) -> dict[str, float]:
        """Play the sessions and learn from them; returns what to log."""
        recipe, left = self._recipe, 1 - self._done / self._updates
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.rate * left
        batch = self._collect(sessions)
        sums: dict[str, float] = {}
        count = 0
        for rows in self._minibatches(len(batch.action)):
            for name, value in self._learn(batch, rows, entropy=recipe.entropy * left).items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
        self._done += 1
        keep = min(recipe.average, self._done / (self._done + 9))
        with torch.no_grad():
            pairs = zip(self._average.parameters(), self._actor.parameters(), strict=True)
            for mean, new in pairs:
                mean.lerp_(new, 1 - keep)
        return {"train_qoe": batch.qoe} | {name: total / count for name, total in sums.items()}

    def _minibatches(self, decisions: int) -> Iterator[Tensor]:
        for _ in range(self._recipe.epochs):
            order = torch.randperm(decisions, generator=self._generator)
            yield from order.split(self._recipe.minibatch)

    def _learn(self, batch: Batch, rows: Tensor, *, entropy: float) -> dict[str, float]:
        recipe = self._recipe
        seen, advantage = batch.seen[rows], batch.advantage[rows]
        log_all = self._actor(seen).log_softmax(1)
        log_new = log_all.gather(1, batch.action[rows, None])[:, 0]
        ratio = (log_new - batch.log_probability[rows]).exp()
        clipped = ratio.clamp(1 - recipe.clip, 1 + recipe.clip)
        gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
        spread = -(log_all.exp() * log_all).sum(1).mean()
        value = self._critic(torch.cat([seen, batch.future[rows]], 1))[:, 0]
        error = nn.functional.huber_loss(value, batch.target[rows])
        self._optimiser.zero_grad()
        weight = float(self._done >= recipe.critic_first)
        (error - weight * (gain + entropy * spread)).backward()
        nn.utils.clip_grad_norm_(self._parameters, recipe.max_norm)
        self._optimiser.step()
        shift = (batch.log_probability[rows] - log_new).mean()
        logged = {"entropy": spread, "value_error": error, "kl": shift}
        return {name: float(tensor.detach()) for name, tensor in logged.items()}

    @torch.no_grad()
    def _collect(self, sessions: Sequence[Session]) -> Batch:
        recipe = self._recipe
        seen, future, action, reward = (torch.from_numpy(a) for a in self._play(sessions))
        seen = self._standard(seen)
        log_all = self._actor(seen).log_softmax(2)
        value = self._critic(torch.cat([seen, future], 2))[..., 0]
        advantage = torch.zeros_like(value)
        running, after = torch.zeros(len(sessions)), torch.zeros(len(sessions))
        for t in reversed(range(len(reward))):
            surprise = reward[t] / recipe.reward_scale + recipe.discount * after - value[t]
            running = surprise + recipe.discount * recipe.trace * running
            advantage[t], after = running, value[t]
        target = (advantage + value).flatten()
        advantage = scaled(advantage, recipe.balance)
        return Batch(
            seen=seen.flatten(0, 1),
            future=future.flatten(0, 1),
            action=action.flatten(),
            log_probability=log_all.gather(2, action[..., None]).flatten(),
            advantage=advantage.flatten(),
            target=target,
            qoe=float(reward.mean()),
        )

    def _standard(self, seen: Tensor) -> Tensor:
        mean, std = torch.from_numpy(self._shift)
        standard: Tensor = ((seen - mean) / std).clamp(-CUT, CUT)
        return standard

    @torch.no_grad()
    def _play(self, sessions: Sequence[Session]) -> tuple[np.ndarray, ...]:
        """Features, future bandwidth, sampled levels and rewards, each (step, session, …)."""
        simulator = Simulator(self._setting, sessions)
        seed = int(torch.randint(2**31, (), generator=self._generator))
        observation = simulator.reset(seed)
        ahead = Future(
            traces=[session.trace for session in sessions],
            scale=np.array([session.scale for session in sessions]),
        )
        rows: list[tuple[np.ndarray, ...]] = []
        done = np.zeros(len(sessions), dtype=bool)
        while not done.all():
            seen, future = features(observation), ahead(simulator.time_s)
            logits = self._actor(self._standard(torch.from_numpy(seen)))
            level = torch.multinomial(logits.softmax(1), 1, generator=self._generator)[:, 0]
            observation, reward, done = simulator.step(level.numpy())
            rows.append((seen, future, level.numpy(), reward.astype(np.float32)))
        return tuple(np.stack(column) for column in zip(*rows, strict=True))


def scaled(
    advantage: Float[Tensor, "step session"], balance: float
) -> Float[Tensor, "step session"]:
    """Advantages of mean 0 and spread 1, but for what `PPORecipe.balance` says."""
    centred = advantage - advantage.mean()
    if balance == 0:
        return centred / (advantage.std() + 1e-6)
    spread = centred.std() + 1e-6
    own = centred.std(dim=0).clamp(min=_LEAST_SPREAD * float(spread))
    balanced: Tensor = centred / (own**balance * spread ** (1 - balance))
    return balanced / (balanced.std() + 1e-6)


def _inner(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors below a name, by the rest of theirs."""
    start = f"{name}."
    return {key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)}
