"""Small real parts: the adapt package is tested without its siblings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from netllm_adapt.pool import Episode
from torch import Tensor, nn

TOKENS = 3
ANSWERS = 4


class LinearEncoder(nn.Module):
    """A return-to-go token and two linear tokens per step."""

    tokens = TOKENS

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.value = nn.Linear(2, width)
        self.other = nn.Linear(2, width)
        self.returns = nn.Linear(1, width)
        self.action = nn.Embedding(ANSWERS, width)

    def observe(self, observation: Mapping[str, Tensor], return_to_go: Tensor) -> Tensor:
        x = observation["x"]
        tokens = [self.returns(return_to_go[..., None]), self.value(x), self.other(x)]
        return torch.stack(tokens, dim=2)

    def act(self, action: Tensor) -> Tensor:
        return self.action(action)[:, :, None]

    def config(self) -> dict[str, Any]:
        return {"width": self.width}


class LinearHead(nn.Module):
    """Logits from the last token of a step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width, ANSWERS)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden[:, :, -1].float())

    def loss(self, hidden: Tensor, observation: Mapping[str, Tensor], label: Tensor) -> Tensor:
        return nn.functional.cross_entropy(
            self.logits(hidden).transpose(1, 2), label, reduction="none"
        )

    def answer(
        self,
        hidden: Tensor,
        observation: Mapping[str, Tensor],
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return self.logits(hidden).argmax(-1)

    def config(self) -> dict[str, Any]:
        return {"width": self.width}


def make_episode(length: int, seed: int) -> Episode:
    """The right action says in which quarter of the plane x lies."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(length, 2)).astype(np.float32)
    action = ((x[:, 0] > 0) + 2 * (x[:, 1] > 0)).astype(np.int64)
    return Episode(
        id=f"episode-{seed}",
        policy="right",
        seed=seed,
        observations={"x": x, "reward": np.ones(length, np.float32)},
        actions=action,
        rewards=rng.uniform(size=length).astype(np.float32),
        labels=None,
        meta={},
    )


class SumEncoder(nn.Module):
    """Each of three numbers as a token, then a learned one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.number = nn.Linear(1, width)
        self.query = nn.Parameter(torch.randn(width))

    def observe(self, observation: Mapping[str, Tensor]) -> Tensor:
        numbers = self.number(observation["numbers"][..., None])
        return torch.cat([numbers, self.query.expand(len(numbers), 1, -1)], dim=1)

    def config(self) -> dict[str, Any]:
        return {"width": self.width}


class SumHead(nn.Module):
    """One number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width, 1)

    def answer(
        self,
        hidden: Tensor,
        observation: Mapping[str, Tensor],
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return self.linear(hidden.float())[:, 0]

    def loss(self, hidden: Tensor, observation: Mapping[str, Tensor], label: Tensor) -> Tensor:
        return (self.answer(hidden, observation) - label).abs()

    def config(self) -> dict[str, Any]:
        return {"width": self.width}
