"""What a model was shown and answered, decision by decision, while it plays some episodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from netllm_adapt.episodes import Ragged

if TYPE_CHECKING:
    import numpy as np
    from netllm_adapt import Adapted
    from torch import Tensor

    from netllm.task import Policy, Task


@dataclass
class Recorded:
    """One episode as its model met it."""

    id: str
    observations: list[Mapping[str, Any]] = field(default_factory=list)
    """What the encoder was given at each call, as tensors and `Ragged` pairs: of a model that
    decides step after step one step (1, 1, …), of a predictor a batch of questions (batch, …)."""
    returns: list[Tensor] = field(default_factory=list)
    """The return-to-go of each step, (1, 1), of a model that decides step after step."""
    answers: list[Tensor] = field(default_factory=list)
    """What the head answered at each call, (1, 1, …) or (batch, …)."""
    taken: list[Tensor] = field(default_factory=list)
    """What was done at each step but the last, (1, 1, …)."""


def record(
    task: Task, model: Adapted, setting: Any, episodes: Sequence[Any], *, seed: int
) -> list[Recorded]:
    """Let a model play episodes, and keep what its encoder and its head were given and gave.

    Raises:
        ValueError: if its policy passes the encoder by.
    """
    from tqdm import tqdm

    recorded = [Recorded(episode.id) for episode in episodes]
    # Who decides step after step plays them side by side; the questions of predictors are of any.
    every = range(len(episodes))
    together = [[k] for k in every] if task.supervised else [every]
    for some in tqdm(together, desc="play", unit="batch", disable=None):
        asked = _Asked(task.policy(model, setting), [recorded[k] for k in some])
        with _watched(model, asked):
            task.rollout(asked, setting, [episodes[k] for k in some], seed=seed)
    if any(not one.answers or len(one.answers) != len(one.observations) for one in recorded):
        raise ValueError(
            f"A model that is explained must answer in one pass by its encoder and head; "
            f"{type(model).__name__} of {task.name} does not. Explain another checkpoint."
        )
    return recorded


class _Asked:
    """A policy, and the episodes that it is being asked about.

    Only the first pass of each answer is kept: a predictor that is asked beyond its horizon goes on
    from its own predictions.
    """

    def __init__(self, policy: Policy, recorded: Sequence[Recorded]) -> None:
        self._policy = policy
        self._recorded = recorded
        self.rows: Sequence[Recorded] = ()
        """The episode of each row of the batch; of a predictor all rows are of its only one."""
        self.sees = self.answers = False
        """Whether the first pass has yet to come."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The policy's answers."""
        numbers = observation.get("episode")
        self.rows = self._recorded if numbers is None else [self._recorded[k] for k in numbers]
        self.sees = self.answers = True
        return self._policy.act(observation)

    def own(self, values: Any) -> list[Any]:
        """Each episode's own of some values; all of them if there is but one."""
        if len(self.rows) == 1:
            return [values]
        if isinstance(values, Ragged):
            return [values.steps(row, row + 1) for row in range(len(self.rows))]
        return [values[row : row + 1] for row in range(len(self.rows))]

    def keep(self, name: str, values: Any) -> None:
        """Add to a list of each episode its own of some values."""
        for one, own in zip(self.rows, self.own(values), strict=True):
            getattr(one, name).append(own)


@contextmanager
def _watched(model: Any, asked: _Asked) -> Iterator[None]:
    """Keep what passes through encoder and head in this block."""
    encoder, head = model.encoder, model.head
    observe, act, answer = encoder.observe, getattr(encoder, "act", None), head.answer

    def observed(observation: Mapping[str, Any], *returns: Tensor) -> Any:
        if asked.sees:
            own = {name: asked.own(values) for name, values in observation.items()}
            for row, one in enumerate(asked.rows):
                one.observations.append({name: values[row] for name, values in own.items()})
            for values in returns:
                asked.keep("returns", values)
            asked.sees = False
        return observe(observation, *returns)

    def acted(action: Tensor, *rest: Any) -> Any:
        assert act is not None
        asked.keep("taken", action)
        return act(action, *rest)

    def answered(*given: Any, **options: Any) -> Any:
        found = answer(*given, **options)
        if asked.answers:
            asked.keep("answers", found)
            asked.answers = False
        return found

    encoder.observe, head.answer = observed, answered
    if act is not None:
        encoder.act = acted
    try:
        yield
    finally:
        del encoder.observe, head.answer
        if act is not None:
            del encoder.act
