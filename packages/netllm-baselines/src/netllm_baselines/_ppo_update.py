"""What trainings by proximal policy optimisation (PPO) share, in torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

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


def advantages(
    reward: Float[Tensor, "step episode"],
    value: Float[Tensor, "step episode"],
    *,
    discount: float,
    trace: float,
) -> Float[Tensor, "step episode"]:
    """How much better than expected each action was; generalised, over the steps that follow.

    Source: Schulman et al., ICLR 2016, eq. 16.
    """
    advantage = torch.zeros_like(value)
    running, after = torch.zeros(value.shape[1]), torch.zeros(value.shape[1])
    for t in reversed(range(len(reward))):
        surprise = reward[t] + discount * after - value[t]
        running = surprise + discount * trace * running
        advantage[t], after = running, value[t]
    return advantage


def scaled(
    advantage: Float[Tensor, "step episode"], balance: float
) -> Float[Tensor, "step episode"]:
    """Advantages of mean 0 and spread 1.

    Args:
        advantage: Of each decision.
        balance: 0 divides all by one spread, 1 each episode by its own.
    """
    centred = advantage - advantage.mean()
    if balance == 0:
        return centred / (advantage.std() + 1e-6)
    spread = centred.std() + 1e-6
    own = centred.std(dim=0).clamp(min=_LEAST_SPREAD * float(spread))
    balanced: Tensor = centred / (own**balance * spread ** (1 - balance))
    return balanced / (balanced.std() + 1e-6)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one gradient step maximises, and what is logged of it; scalars."""

    gain: Tensor
    """PPO's clipped objective."""
    entropy: Tensor
    """Mean entropy of the answers, nats."""
    divergence: Tensor
    """Estimate of the Kullback-Leibler divergence from the actor that drove, nats."""

    @classmethod
    def of(
        cls,
        logits: Float[Tensor, "decision answer"],
        action: Int[Tensor, " decision"],
        *,
        log_probability: Float[Tensor, " decision"],
        advantage: Float[Tensor, " decision"],
        clip: float,
    ) -> Self:
        """The step's objective on some decisions.

        Source: Schulman et al., arXiv:1707.06347, eq. 7.

        Args:
            logits: Of the actor under training.
            action: What was done.
            log_probability: Of what was done, under the actor that drove.
            advantage: Of what was done.
            clip: How far the ratio of probabilities may leave 1.
        """
        log_all = logits.log_softmax(1)
        log_new = log_all.gather(1, action[:, None])[:, 0]
        ratio = (log_new - log_probability).exp()
        clipped = ratio.clamp(1 - clip, 1 + clip)
        return cls(
            gain=torch.minimum(ratio * advantage, clipped * advantage).mean(),
            entropy=-(log_all.exp() * log_all).sum(1).mean(),
            divergence=(log_probability - log_new).mean(),
        )
