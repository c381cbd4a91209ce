"""What a student learns from: states, and what the adapted model answers there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from netllm.task import Policy

_WANTED = "wanted"


class Asked:
    """A driver, in whose every state a teacher is asked too; both answers are kept.

    Args:
        teacher: the adapted model as a policy.
        driver: who decides; the teacher itself if None.
        epsilon: share of uniformly random answers, where the teacher gives probabilities.
    """

    def __init__(
        self, teacher: Policy, driver: Policy | None = None, *, epsilon: float = 0.0
    ) -> None:
        self._teacher, self._driver, self._epsilon = teacher, driver, epsilon
        self.seen: list[dict[str, np.ndarray]] = []
        """By decision what was seen."""
        self.wanted: list[np.ndarray] = []
        """By decision the teacher's probabilities, or its answers if it has none."""

    def reset(self, seed: int) -> None:
        """Begin new episodes."""
        self._dice = np.random.default_rng(seed)
        for one in filter(None, (self._teacher, self._driver)):
            one.reset(seed)

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The driver's answers, some of them random."""
        self.seen.append({name: np.array(value) for name, value in observation.items()})
        odds = getattr(self._teacher, "probabilities", None)
        wanted: np.ndarray = self._teacher.act(observation) if odds is None else odds(observation)
        self.wanted.append(wanted)
        actions = wanted if odds is None else wanted.argmax(1)
        if self._driver is not None:
            actions = self._driver.act(observation)
        if odds is not None:
            strays = self._dice.random(len(actions)) < self._epsilon
            others = self._dice.integers(wanted.shape[1], size=len(actions))
            actions = np.where(strays, others, actions)
        if hasattr(self._teacher, "took"):
            self._teacher.took(actions)
        return actions

    def states(self) -> dict[str, np.ndarray]:
        """All of it, decisions under one another; what is wanted under a name of its own."""
        fields = {name: np.concatenate([one[name] for one in self.seen]) for name in self.seen[0]}
        return {**fields, _WANTED: np.concatenate(self.wanted)}


def write(file: Path, states: Mapping[str, np.ndarray]) -> None:
    """Keep states in a file, whole or not at all."""
    from netllm_adapt.files.writing import new_file
    from safetensors.numpy import save_file

    plain = {
        name: np.ascontiguousarray(value)
        for name, value in states.items()
        if value.dtype.kind in "fiub"
    }
    with new_file(file) as work:
        save_file(plain, work)


def read(files: Sequence[Path]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What was seen and what was wanted, of several files under one another."""
    from safetensors.numpy import load_file

    parts = [load_file(file) for file in files]
    whole = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    wanted = whole.pop(_WANTED)
    return whole, wanted
