"""What a run learns from, row by row, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int


class Rows(Protocol):
    """What a run learns from, row by row; a batch of them is what the model's `forward` takes."""

    def __len__(self) -> int: ...

    def weight(self, row: int) -> int:
        """How many losses a row carries."""
        ...

    def batch(self, rows: Sequence[int]) -> Any:
        """Some rows as tensors, with `to(device)`."""
        ...

    def shuffled(self, draw: np.random.Generator) -> Int[np.ndarray, "row"]:
        """All of them in random order."""
        ...

    def facts(self) -> dict[str, Any]:
        """What tells them from others."""
        ...


class Order:
    """Which rows each optimiser step learns from.

    Every epoch has an order of its own, drawn from the seed and the epoch's number, so that it is
    a function of the step, and a resumed run sees what the unbroken one would have.
    """

    def __init__(self, rows: Rows, *, batch: int, seed: int) -> None:
        self._rows, self._batch, self._seed = rows, batch, seed
        self._epoch = lru_cache(maxsize=1)(self._draw)

    def _draw(self, epoch: int) -> Int[np.ndarray, "row"]:
        return self._rows.shuffled(np.random.default_rng([self._seed, epoch]))

    def rows(self, step: int) -> list[int]:
        """Those of a step, from 0."""
        drawn: list[int] = []
        position = step * self._batch
        while len(drawn) < self._batch:
            epoch, offset = divmod(position, len(self._rows))
            part = self._epoch(epoch)[offset : offset + self._batch - len(drawn)]
            drawn.extend(part.tolist())
            position += len(part)
        return drawn
