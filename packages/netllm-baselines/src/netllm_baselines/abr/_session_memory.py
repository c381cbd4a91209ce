"""What a batched policy remembers of each session."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

Observation = Mapping[str, ndarray]


def begins(observation: Observation) -> Bool[ndarray, "batch"]:
    """Which sessions stand at their first decision: they have measured one chunk only."""
    return observation["throughput_mbps"][:, -2] == 0


class Memory:
    """Arrays with one row per session, zeroed where a session begins, so that episodes never mix.

    Args:
        fields: Shape of one session's row, by name.
    """

    def __init__(self, **fields: tuple[int, ...]) -> None:
        self._fields = fields
        self._rows: dict[str, ndarray] = {}

    def clear(self) -> None:
        """Forget all sessions; the next batch may have another size."""
        self._rows = {}

    def update(self, observation: Observation) -> Bool[ndarray, "batch"]:
        """Zero the rows of the sessions that begin, and return which ones do.

        Raises:
            ValueError: The batch changed its size in the middle of its sessions.
        """
        fresh = begins(observation)
        batch = len(fresh)
        if not self._rows or (fresh.all() and self._batch != batch):
            self._rows = {name: np.zeros((batch, *row)) for name, row in self._fields.items()}
        if self._batch != batch:
            raise ValueError(
                f"The observation must hold the same {self._batch} sessions as before, "
                f"got {batch}. Call `reset` before another batch."
            )
        for rows in self._rows.values():
            rows[fresh] = 0
        return fresh

    @property
    def _batch(self) -> int:
        return len(next(iter(self._rows.values())))

    def __getitem__(self, name: str) -> ndarray:
        return self._rows[name]

    def __setitem__(self, name: str, rows: ndarray) -> None:
        self._rows[name][...] = rows
