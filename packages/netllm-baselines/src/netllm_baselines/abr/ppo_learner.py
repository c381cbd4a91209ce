"""Actor, critic and one PPO update, in torch."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from netllm_sims.abr import Session, Setting, Simulator
from torch import Tensor, nn

from netllm_baselines._ppo_update import Step, advantages, perceptron, scaled
from netllm_baselines.abr.ppo_features import HORIZONS_S, Future, features, width
from netllm_baselines.abr.ppo_recipe import PPORecipe
from netllm_baselines.perceptron import CUT, Perceptron


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

    def actor(self, **meta: object) -> Perceptron:
        """The running average of the actor, ready to save."""
        return Perceptron.of(self._average, mean=self._shift[0], std=self._shift[1], meta=meta)

    def seed(self, seed: int) -> None:
        """Start the stream of sampled levels and minibatches anew."""
        self._generator.manual_seed(seed)

    def begin_with(self, actor: Perceptron) -> None:
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
        seen = batch.seen[rows]
        step = Step.of(
            self._actor(seen),
            batch.action[rows],
            log_probability=batch.log_probability[rows],
            advantage=batch.advantage[rows],
            clip=recipe.clip,
        )
        value = self._critic(torch.cat([seen, batch.future[rows]], 1))[:, 0]
        error = nn.functional.huber_loss(value, batch.target[rows])
        self._optimiser.zero_grad()
        weight = float(self._done >= recipe.critic_first)
        (error - weight * (step.gain + entropy * step.entropy)).backward()
        nn.utils.clip_grad_norm_(self._parameters, recipe.max_norm)
        self._optimiser.step()
        logged = {"entropy": step.entropy, "value_error": error, "kl": step.divergence}
        return {name: float(tensor.detach()) for name, tensor in logged.items()}

    @torch.no_grad()
    def _collect(self, sessions: Sequence[Session]) -> Batch:
        recipe = self._recipe
        seen, future, action, reward = (torch.from_numpy(a) for a in self._play(sessions))
        seen = self._standard(seen)
        log_all = self._actor(seen).log_softmax(2)
        value = self._critic(torch.cat([seen, future], 2))[..., 0]
        advantage = advantages(
            reward / recipe.reward_scale, value, discount=recipe.discount, trace=recipe.trace
        )
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


def _inner(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors below a name, by the rest of theirs."""
    start = f"{name}."
    return {key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)}
