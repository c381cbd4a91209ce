"""Episodes cut into the rows that training sees and decisions repeat (DESIGN decision 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netllm_adapt.episodes import Episode, check_steps
from netllm_adapt.layout import stack
from netllm_adapt.ragged import Ragged
from netllm_adapt.returns import return_to_go


class Segment(NamedTuple):
    """Steps `start` to `stop` of an episode are learned; `context` to `start` are only seen."""

    episode: int
    context: int
    start: int
    stop: int


def plan(sizes: Sequence[Int[np.ndarray, "step"]], *, segment: int, window: int) -> list[Segment]:
    """The segments of episodes, each after a `window` of context.

    A segment takes the steps that fit into `segment` tokens, and one at least.

    Args:
        sizes: per episode the tokens of each of its steps.
        segment: tokens.
        window: steps.
    """
    return [
        Segment(episode, max(0, start - window), start, stop)
        for episode, tokens in enumerate(sizes)
        for start, stop in _cuts(tokens, segment)
    ]


def _cuts(tokens: Int[np.ndarray, "step"], segment: int) -> Iterator[tuple[int, int]]:
    ends = np.cumsum(tokens)
    start = 0
    while start < len(ends):
        used = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, used + segment, side="right")))
        yield start, stop
        start = stop


@dataclass
class Batch:
    """Rows of consecutive steps, padded at the end to the longest row.

    `learn` marks the steps that carry loss: neither padding nor context.
    """

    observations: Mapping[str, Tensor | Ragged]
    returns: Float[Tensor, "batch step"]
    actions: Int[Tensor, "batch step ..."]
    labels: Tensor
    learn: Bool[Tensor, "batch step"]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(
            {name: value.to(device) for name, value in self.observations.items()},
            self.returns.to(device),
            self.actions.to(device),
            self.labels.to(device),
            self.learn.to(device),
        )


def collate(episodes: Sequence[Episode], segments: Sequence[Segment]) -> Batch:
    """One batch from `segments`, whose `episode` counts into `episodes`.

    Returns-to-go are summed over the whole episode before it is cut, and never cross into another.
    Labels are the pool's, or the actions taken where the pool has none.
    """
    cuts = [(episodes[s.episode], s.context, s.stop) for s in segments]
    steps = max(s.stop - s.context for s in segments)
    learn = torch.zeros(len(segments), steps, dtype=torch.bool, device="cpu")
    for row, s in zip(learn, segments, strict=True):
        row[s.start - s.context : s.stop - s.context] = True

    def rows(of: Callable[[Episode], np.ndarray | Ragged]) -> Any:
        return stack([_part(of(e), start, stop) for e, start, stop in cuts], steps)

    return Batch(
        observations={
            name: rows(lambda e, name=name: e.observations[name])  # type: ignore[misc]
            for name in cuts[0][0].observations
        },
        returns=rows(lambda e: return_to_go(e.rewards)),
        actions=rows(lambda e: e.actions),
        labels=rows(lambda e: e.actions if e.labels is None else e.labels),
        learn=learn,
    )


def _part(field: np.ndarray | Ragged, start: int, stop: int) -> np.ndarray | Ragged:
    return field.steps(start, stop) if isinstance(field, Ragged) else field[start:stop]


class SegmentRows:
    """Episodes as rows to learn from.

    Args:
        episodes: those of a pool, or any.
        size: tokens of each step of an episode.
        segment: tokens of a segment.
        window: steps of context before it.

    Raises:
        ValueError: if there are no episodes, or an episode's fields differ in their steps.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        *,
        size: Callable[[Episode], Int[np.ndarray, "step"]],
        segment: int,
        window: int,
    ) -> None:
        for episode in episodes:
            check_steps(episode)
        self._episodes = episodes
        self._segments = plan([size(e) for e in episodes], segment=segment, window=window)
        if not self._segments:
            raise ValueError("The pool holds no episodes. Collect some with `netllm rl-collect`.")

    def __len__(self) -> int:
        return len(self._segments)

    def weight(self, row: int) -> int:
        """How many decisions a row teaches."""
        segment = self._segments[row]
        return segment.stop - segment.start

    def batch(self, rows: Sequence[int]) -> Batch:
        """Some rows as tensors."""
        return collate(self._episodes, [self._segments[row] for row in rows])
