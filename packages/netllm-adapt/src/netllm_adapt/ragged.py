"""Fields of which every step holds its own number of values: the stages of a cluster, say."""

from __future__ import annotations

from typing import Any, NamedTuple


class Ragged(NamedTuple):
    """Step k holds the rows ``values[ptr[k]:ptr[k + 1]]``, as arrays or as tensors.

    Being a plain pair, it crosses to encoders and heads, which know nothing of this package.
    """

    values: Any
    ptr: Any

    def steps(self, start: int, stop: int) -> Ragged:
        """The steps from `start` to before `stop`."""
        first, last = self.ptr[start], self.ptr[stop]
        return Ragged(self.values[first:last], self.ptr[start : stop + 1] - first)

    def to(self, device: Any) -> Ragged:
        """The same tensors on another device."""
        return Ragged(self.values.to(device), self.ptr.to(device))
