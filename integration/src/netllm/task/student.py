"""What a task says of students: small networks that learn to answer as an adapted model does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from netllm.task.policy import Policy

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


@dataclass(frozen=True)
class Graph:
    """A student as a torch module, from an observation's fields to what it answers."""

    module: nn.Module
    """Called with a mapping named `inputs`."""
    inputs: Mapping[str, Tensor]
    """An example of the fields, of two rows."""
    output: str
    """What the result is called: `probabilities` or `answer`."""


class Training(Protocol):
    """A student under training; a task names its class in `student`.

    It is made with the setting, and the seed of everything random.
    """

    file: str
    """What the file of its weights is called."""

    def __init__(self, setting: Any, *, seed: int) -> None: ...

    def begin_with(self, file: Path) -> None:
        """Take the weights that `save` wrote."""
        ...

    def learn(self, seen: Mapping[str, np.ndarray], wanted: np.ndarray) -> float:
        """Learn from what was seen at many decisions; the mean error at the end.

        Args:
            seen: the observations' fields, decisions along the first axis.
            wanted: the model's answers, or the probabilities that it gave to each answer.
        """
        ...

    def policy(self, *, sample: bool = False) -> Policy:
        """The student as it is; where it gives probabilities it may `sample` its answers."""
        ...

    @staticmethod
    def graph(file: Path) -> Graph:
        """The student of a file, for `netllm export`."""
        ...

    def save(self, file: Path, meta: Mapping[str, Any]) -> None:
        """Write its weights, and what is known of them, as a policy of the task reads them."""
        ...
