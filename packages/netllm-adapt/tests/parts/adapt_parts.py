"""Small real parts: the adapt package is tested without its siblings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from netllm_adapt import add_lora
from netllm_adapt.episodes import Ragged
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

    def act(self, action: Tensor, observation: Mapping[str, Tensor]) -> Tensor:
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


def linear_model(architecture: str = "llama", *, dtype: str = "float32", **facts: Any) -> Any:
    """A model of the linear parts on two tiny layers, whose adapter has learned something."""
    from netllm_adapt import AdaptedModel, BackboneSpec, add_lora, load_backbone

    spec = BackboneSpec(f"tiny-random-{architecture}", layers=2, dtype=dtype)
    backbone = add_lora(load_backbone(spec.name, layers=2, dtype=dtype), rank=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.3)
        parts = {"encoder": LinearEncoder(64), "head": LinearHead(64)}
        facts = {"window": 4, "segment": 24, **facts}
        return AdaptedModel(backbone=backbone, **parts, spec=spec, **facts).eval()


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


class ListEncoder(nn.Module):
    """A return-to-go token, one per listed number, and a learned one."""

    tokens = None

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.number = nn.Linear(1, width)
        self.returns = nn.Linear(1, width)
        self.chosen = nn.Linear(1, width)
        self.query = nn.Parameter(torch.randn(width))

    def count(self, observation: Mapping[str, Any]) -> Tensor:
        _, ptr = observation["numbers"]
        counts = (ptr[1:] - ptr[:-1]).view(observation["reward"].shape)
        return torch.where(counts > 0, counts + 2, 0)

    def observe(self, observation: Mapping[str, Any], return_to_go: Tensor) -> Any:
        values, ptr = observation["numbers"]
        parts = [values[a:b] for a, b in pairwise(ptr.tolist())]
        steps = [
            torch.cat([self.returns(back.view(1, 1)), self.number(part[:, None]), self.query[None]])
            for back, part in zip(return_to_go.flatten(), parts, strict=True)
            if len(part)
        ]
        count = self.count(observation).flatten().cumsum(0)
        return torch.cat(steps), torch.cat([count.new_zeros(1), count])

    def act(self, action: Tensor, observation: Mapping[str, Any]) -> Tensor:
        values, ptr = observation["numbers"]
        at = (ptr[:-1].view(action.shape) + action).clamp(max=len(values) - 1)
        return self.chosen(values[at][..., None])[:, :, None]

    def config(self) -> dict[str, Any]:
        return {"width": self.width}


class PickHead(nn.Module):
    """Which of the listed numbers: its token's score."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width, 1)

    def scores(self, hidden: Any) -> list[Tensor]:
        values, ptr = hidden
        score = self.linear(values.float())[:, 0]
        return [score[a + 1 : b - 1] for a, b in pairwise(ptr.tolist())]

    def loss(self, hidden: Any, observation: Mapping[str, Any], label: Tensor) -> Tensor:
        losses = [
            -score.log_softmax(0)[int(right)] if len(score) else score.sum()
            for score, right in zip(self.scores(hidden), label.flatten(), strict=True)
        ]
        return torch.stack(losses).view(label.shape)

    def answer(
        self,
        hidden: Any,
        observation: Mapping[str, Any],
        *,
        greedy: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        picked = [score.argmax() if len(score) else score.sum() for score in self.scores(hidden)]
        return torch.stack(picked).view(observation["reward"].shape).long()

    def config(self) -> dict[str, Any]:
        return {"width": self.width}


def make_list_episode(length: int, seed: int, *, longest: int = 6) -> Episode:
    """The right action is the place of the largest of some numbers, or what was drawn."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, longest + 1, size=length)
    ptr = np.concatenate([[0], counts.cumsum()])
    numbers = rng.normal(size=ptr[-1]).astype(np.float32)
    right = [int(numbers[a:b].argmax()) for a, b in pairwise(ptr)]
    return Episode(
        id=f"list-{seed}",
        policy="right",
        seed=seed,
        observations={"numbers": Ragged(numbers, ptr), "reward": np.ones(length, np.float32)},
        actions=rng.integers(counts),
        rewards=np.ones(length, np.float32),
        labels=np.array(right),
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
        return torch.cat([numbers, self.query.expand(numbers.shape[0], 1, -1)], dim=1)

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


def add_random_lora(plain: Any, *, std: float, **options: Any) -> Any:
    """A backbone with matrices of rank 4 that change its answers, as learned ones do."""
    backbone = add_lora(plain, rank=4, **options)
    for name, parameter in backbone.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=std)
    return backbone
