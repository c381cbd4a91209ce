"""Batches of episodes: cut into segments as decisions see them (DESIGN decision 1), and padded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netllm_adapt.device import to_device
from netllm_adapt.episodes import Episode, Ragged, check_steps, digest, return_to_go
from netllm_adapt.observations import as_tensor, tensors
from netllm_adapt.pool.reader import Pool


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
    segments = []
    for episode, tokens in enumerate(sizes):
        ends, start = np.cumsum(tokens), 0
        while start < len(ends):
            used = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, used + segment, side="right")))
            segments.append(Segment(episode, max(0, start - window), start, stop))
            start = stop
    return segments


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
        observations = {n: to_device(value, device) for n, value in self.observations.items()}
        parts = (self.returns, self.actions, self.labels, self.learn)
        return Batch(observations, *(to_device(part, device) for part in parts))


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


class SegmentedEpisodes:
    """Episodes cut into the segments that a model learns from.

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
        sizes = []

        def seen() -> Iterator[Episode]:
            for episode in episodes:
                check_steps(episode)
                sizes.append(size(episode))
                yield episode

        self._episodes = episodes
        self._digest = digest(seen())
        self._segments = np.array(plan(sizes, segment=segment, window=window), dtype=np.int64)
        if not len(self._segments):
            raise ValueError("The pool holds no episodes. Collect some with `netllm rl-collect`.")

    def __len__(self) -> int:
        return len(self._segments)

    def weight(self, row: int) -> int:
        """How many decisions a row teaches."""
        segment = self._segment(row)
        return segment.stop - segment.start

    def _segment(self, row: int) -> Segment:
        return Segment(*self._segments[row].tolist())

    def shuffled(self, draw: np.random.Generator) -> Int[np.ndarray, "row"]:
        """All rows in random order; of a large pool, that of its parts: see `Pool.shuffled`."""
        if not isinstance(self._episodes, Pool):
            return draw.permutation(len(self))
        ends = np.searchsorted(self._segments[:, 0], np.arange(len(self._episodes) + 1))
        rows = np.split(np.arange(len(self)), ends[1:-1])
        parts = self._episodes.shuffled(draw)
        return np.concatenate(
            [draw.permutation(np.concatenate([rows[e] for e in part])) for part in parts]
        )

    def batch(self, rows: Sequence[int]) -> Batch:
        """Some rows as tensors."""
        return collate(self._episodes, [self._segment(row) for row in rows])

    def facts(self) -> dict[str, Any]:
        """How many episodes they are of, and the digest of those."""
        return {"pool": f"{len(self._episodes)} episodes {self._digest[:16]}"}


@dataclass
class ExampleBatch:
    """Some examples as tensors."""

    observations: Mapping[str, Tensor]
    labels: Tensor

    @property
    def learn(self) -> Bool[Tensor, "batch"]:
        """Every example carries loss."""
        return torch.ones(len(self.labels), dtype=torch.bool, device=self.labels.device)

    def to(self, device: torch.device) -> ExampleBatch:
        """The same batch on another device."""
        observations = {n: to_device(value, device) for n, value in self.observations.items()}
        return ExampleBatch(observations, to_device(self.labels, device))


class Examples:
    """Observations with their right answers: what a supervised task is learned from.

    Args:
        observations: fields by name, with a leading axis of examples.
        labels: the right answers, with the same leading axis.

    Raises:
        ValueError: if there are none, or they are not of one length.
    """

    def __init__(self, observations: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        lengths = {name: len(values) for name, values in observations.items()}
        if not len(labels) or set(lengths.values()) != {len(labels)}:
            raise ValueError(
                f"Fields and labels must be of one length above 0, got {lengths} and "
                f"{len(labels)} labels."
            )
        self.observations = dict(observations)
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def weight(self, row: int) -> int:
        """How many answers a row teaches."""
        return 1

    def shuffled(self, draw: np.random.Generator) -> Int[np.ndarray, "row"]:
        """All examples in random order."""
        return draw.permutation(len(self))

    def batch(self, rows: Sequence[int]) -> ExampleBatch:
        """Some examples as tensors."""
        chosen = np.asarray(rows)
        return ExampleBatch(
            {name: as_tensor(values[chosen]) for name, values in self.observations.items()},
            as_tensor(self.labels[chosen]),
        )

    def facts(self) -> dict[str, Any]:
        """How many there are."""
        return {"examples": len(self)}


def stack(parts: Sequence[np.ndarray | Ragged], steps: int) -> Tensor | Ragged:
    """Rows of consecutive steps as one batch, each padded at its end to `steps` steps.

    Padding is zeros; of a ragged field, steps without values.
    """
    if isinstance(parts[0], Ragged):
        counts = np.zeros((len(parts), steps), np.int64)
        for row, (_, ptr) in zip(counts, parts, strict=True):
            row[: len(ptr) - 1] = np.diff(ptr)
        ptr = np.concatenate([[0], counts.ravel().cumsum()])
        return tensors(Ragged(np.concatenate([values for values, _ in parts]), ptr))
    out = np.zeros((len(parts), steps, *parts[0].shape[1:]), dtype=parts[0].dtype)
    for row, array in zip(out, parts, strict=True):
        row[: len(array)] = array
    return as_tensor(out)


def select(
    observation: Mapping[str, Tensor | Ragged], rows: Int[Tensor, "row"]
) -> dict[str, Tensor | Ragged]:
    """Some rows of a batch that holds one step per row."""
    return {name: _select(field, rows) for name, field in observation.items()}


def _select(field: Tensor | Ragged, rows: Int[Tensor, "row"]) -> Tensor | Ragged:
    if not isinstance(field, Ragged):
        return field[rows]
    ptr = field.ptr.tolist()
    parts = [field.values[ptr[row] : ptr[row + 1]] for row in rows.tolist()]
    return _ragged(parts, (field.ptr[1:] - field.ptr[:-1])[rows])


def joined(observations: Sequence[Mapping[str, Tensor | Ragged]]) -> dict[str, Tensor | Ragged]:
    """The rows of several batches that hold one step per row, one batch after the other."""
    return {name: _joined([one[name] for one in observations]) for name in observations[0]}


def _joined(fields: Sequence[Any]) -> Tensor | Ragged:
    if not isinstance(fields[0], Ragged):
        return torch.cat([*fields])
    counts = torch.cat([field.ptr[1:] - field.ptr[:-1] for field in fields])
    return _ragged([field.values for field in fields], counts)


def _ragged(parts: Sequence[Tensor], counts: Int[Tensor, "step"]) -> Ragged:
    """The rows under one another, of so many of which each step consists."""
    return Ragged(torch.cat([*parts]), torch.cat([counts.new_zeros(1), counts.cumsum(0)]))


class Layout:
    """Where the tokens of ragged steps lie in rows of one length.

    A step is its observation's tokens, then its action's one; a step without tokens is padding and
    takes no room. Steps follow one another, so that padding is at the end of a row.

    Args:
        ptr: of the observations' tokens, with one step per entry of (batch, step).
        batch: number of rows.
    """

    def __init__(self, ptr: Int[Tensor, "offset"], *, batch: int) -> None:
        counts = (ptr[1:] - ptr[:-1]).view(batch, -1)
        sizes = counts + (counts > 0)
        begin = sizes.cumsum(1) - sizes
        self.length = int(sizes.sum(1).max())
        begin = begin + self.length * torch.arange(batch, device=ptr.device)[:, None]
        flat = counts.flatten()
        step = torch.arange(len(flat), device=ptr.device).repeat_interleave(flat)
        offset = torch.arange(len(step), device=ptr.device) - ptr[step]
        self.observed = begin.flatten()[step] + offset
        self.acts = flat > 0
        self.acted = (begin + counts).flatten()[self.acts]
        self.step = ptr.new_full((batch * self.length,), -1)
        self.step[self.observed] = step % counts.shape[1]
        self.step[self.acted] = self.acts.nonzero()[:, 0] % counts.shape[1]
        self.step = self.step.view(batch, self.length)

    def join(self, observed: Tensor, acted: Tensor) -> Tensor:
        """The rows (batch, token, width) from the tokens of observations and of actions."""
        batch, length = self.step.shape
        rows = observed.new_zeros(batch * length, observed.shape[1])
        rows[self.observed] = observed
        rows[self.acted] = acted.reshape(-1, acted.shape[-1])[self.acts].to(rows.dtype)
        return rows.view(batch, length, -1)

    def observed_of(self, hidden: Tensor) -> Tensor:
        """The observations' tokens of such rows."""
        return hidden.flatten(0, 1)[self.observed]
