"""A line of a report and the pieces that it is made of: a policy on a run of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from netllm import registry
from netllm.deciders.policy_spec import PolicySpec
from netllm.task import Declared, Outcome, asked, validity
from netllm.verbs.parallel import noted

# Policies that have run in this process, with the name of the setting.
_warm: set[tuple[PolicySpec, str]] = set()


@dataclass(frozen=True)
class Piece:
    """One policy on a run of episodes, with one reset."""

    spec: PolicySpec
    setting: Any
    episodes: Sequence[Any]
    seed: int
    """As the report has it."""
    stream: int
    """Seed of the policy's random stream."""

    def run(self) -> Outcome:
        """Let the policy decide; an error says whose it was."""
        task = registry.task(self.spec.task)
        with noted(f"{self.spec.name!r} in setting {self.setting.name!r}"):
            _warm_up(self.spec, self.setting, self.episodes, seed=self.stream)
            policy = self.spec.build(self.setting)
            outcome = task.rollout(policy, self.setting, self.episodes, seed=self.stream)
        rows = [{"seed": self.seed, **row} for row in outcome.rows]
        return replace(outcome, rows=rows, validity=validity(policy), asked=asked(policy))


def _warm_up(spec: PolicySpec, setting: Any, episodes: Sequence[Any], *, seed: int) -> None:
    """Let a policy decide for a while, once per process, so that none pays for the others.

    It decides at the beginning of the first episode, and is built anew for that: what a policy
    carries from episode to episode, and its random stream, are those of the one that is measured.
    """
    key = (spec, setting.name)
    if key in _warm:
        return
    policy = spec.build(setting)
    task = registry.task(spec.task)
    task.rollout(policy, setting, [task.beginning(episodes[0])], seed=seed)
    _warm.add(key)


@dataclass(frozen=True)
class Line:
    """One policy in one setting: a line of the report."""

    spec: PolicySpec
    setting: Any
    declared: Declared
    pieces: list[Piece]

    @property
    def episodes(self) -> list[Any]:
        """All its episodes."""
        return [episode for piece in self.pieces for episode in piece.episodes]
