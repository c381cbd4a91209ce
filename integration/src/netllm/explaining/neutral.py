"""What a decision is compared with: the same one on a neutral observation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import torch
from netllm_adapt.episodes import Ragged
from torch import Tensor

from netllm.explaining.decision import RETURN, Decision, Fields
from netllm.explaining.recorded import Recorded

if TYPE_CHECKING:
    from netllm.task import Task


class Neutral:
    """The mean of every field over some episodes, or what the task says (`Task.neutral`).

    Args:
        task: whose observations they are.
        episodes: whose means are taken.
    """

    def __init__(self, task: Task, episodes: Sequence[Recorded]) -> None:
        self._own = resolve_name(task.neutral) if task.neutral else None
        self.text = f"the mean of every field over {len(episodes)} episodes"
        if self._own is not None:
            self.text = (self._own.__doc__ or task.neutral).partition("\n")[0].rstrip(".")
        deciding = bool(episodes[0].returns)
        self._means: dict[str, Tensor] = {}
        for name in episodes[0].observations[0]:
            every = (step[name] for one in episodes for step in one.observations)
            self._means[name] = _mean(every, steps=deciding)
        if deciding:
            self._means[RETURN] = _mean((x for one in episodes for x in one.returns), steps=True)

    def __call__(self, decision: Decision) -> tuple[Fields, Fields]:
        """A decision's numbers, as they may be moved along a line, and the neutral ones."""
        told = decision.numbers
        neutral = {name: self._means[name].expand_as(values) for name, values in told.items()}
        if self._own is None:
            return told, neutral
        moved, own = self._own(told)
        return {**told, **moved}, {**neutral, **own}


def _mean(fields: Iterable[Any], *, steps: bool) -> Tensor:
    """The mean of a field over steps, of a ragged one over its rows."""
    rows = [one.values if isinstance(one, Ragged) else one.flatten(0, int(steps)) for one in fields]
    return torch.cat(rows).float().mean(0)
