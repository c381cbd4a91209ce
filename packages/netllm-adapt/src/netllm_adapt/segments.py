"""Episodes cut into the rows that training sees and decisions repeat (DESIGN decision 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netllm_adapt.arrays import as_tensor
from netllm_adapt.pool import Episode
from netllm_adapt.returns import return_to_go


class Segment(NamedTuple):
    """Steps `start` to `stop` of an episode are learned; `context` to `start` are only seen."""

    episode: int
    context: int
    start: int
    stop: int


def steps_per_segment(segment: int, tokens_per_step: int) -> int:
    """How many whole steps of `tokens_per_step` tokens fit into a segment of `segment` tokens.

    Raises:
        ValueError: if not even one step fits.
    """
    if segment < tokens_per_step:
        raise ValueError(
            f"A segment must hold at least one step of {tokens_per_step} tokens, "
            f"got segment={segment}. Raise `segment`."
        )
    return segment // tokens_per_step


def plan(lengths: Sequence[int], *, steps: int, window: int) -> list[Segment]:
    """The segments of episodes with `lengths` steps: `steps` each, after a `window` of context."""
    return [
        Segment(episode, max(0, start - window), start, min(start + steps, length))
        for episode, length in enumerate(lengths)
        for start in range(0, length, steps)
    ]


@dataclass
class Batch:
    """Rows of consecutive steps, padded at the end to the longest row.

    `learn` marks the steps that carry loss: neither padding nor context.
    """

    observations: Mapping[str, Tensor]
    returns: Float[Tensor, "batch step"]
    actions: Int[Tensor, "batch step"]
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


def _rows(arrays: Sequence[np.ndarray], steps: int) -> Tensor:
    out = np.zeros((len(arrays), steps, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return as_tensor(out)


def collate(episodes: Sequence[Episode], segments: Sequence[Segment]) -> Batch:
    """One batch from `segments`, whose `episode` counts into `episodes`.

    Returns-to-go are summed over the whole episode before it is cut, and never cross into another.
    Labels are the pool's, or the actions taken where the pool has none.
    """
    cuts = [(episodes[s.episode], slice(s.context, s.stop)) for s in segments]
    steps = max(s.stop - s.context for s in segments)
    learn = torch.zeros(len(segments), steps, dtype=torch.bool)
    for row, s in zip(learn, segments, strict=True):
        row[s.start - s.context : s.stop - s.context] = True
    labels = [e.actions if e.labels is None else e.labels for e, _ in cuts]
    return Batch(
        observations={
            name: _rows([e.observations[name][cut] for e, cut in cuts], steps)
            for name in cuts[0][0].observations
        },
        returns=_rows([return_to_go(e.rewards)[cut] for e, cut in cuts], steps),
        actions=_rows([e.actions[cut] for e, cut in cuts], steps),
        labels=_rows([label[cut] for label, (_, cut) in zip(labels, cuts, strict=True)], steps),
        learn=learn,
    )


class SegmentRows:
    """Episodes as rows to learn from.

    Args:
        episodes: those of a pool, or any.
        steps: of a segment.
        window: steps of context before it.

    Raises:
        ValueError: if there are no episodes.
    """

    def __init__(self, episodes: Sequence[Episode], *, steps: int, window: int) -> None:
        self._episodes = episodes
        self._segments = plan([len(e.actions) for e in episodes], steps=steps, window=window)
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
