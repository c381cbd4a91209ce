"""Policies decide in the episodes of a setting, piece by piece, and are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netllm import registry
from netllm.data import sources
from netllm.deciders.checkpoint_names import Lineage
from netllm.deciders.policy_spec import PolicySpec
from netllm.report.result import Result, subsets, summarise
from netllm.task import Declared, Outcome, Task
from netllm.verbs.parallel import derived_seed, results
from netllm.verbs.pieces import Line, Piece
from netllm.verbs.testing.train_test_overlaps import shown


@dataclass(frozen=True)
class Episodes:
    """Which episodes of a setting are tested."""

    part: str
    count: int | None
    """Only the first so many; all if None."""
    seeds: Sequence[int]
    """Those that were asked for; the task's own if empty."""

    def drawn(self, task: Task, setting: Any) -> Mapping[int, Sequence[Any]]:
        """The episodes of every seed; those that seeds name are run together."""
        named = task.by_seed(setting, self.part, self.seeds) if self.seeds else None
        if named is not None:
            return {self.seeds[0]: named[: self.count]}
        return {
            seed: task.episodes(setting, self.part, count=self.count, seed=seed)
            for seed in self.seeds or task.seeds(setting)
        }


@dataclass(frozen=True)
class Plan:
    """What is to be done in one setting."""

    part: str
    setting: Any
    seeds: Sequence[int]
    members: Mapping[str, frozenset[str]]
    """Named parts of the test set, as episode ids."""
    clusters: Mapping[str, Mapping[str, str]]
    """By episode what it has in common with others."""
    lines: Sequence[Line]
    left_out: Mapping[str, str]
    """Rivals that cannot be built here, with the reason."""


def plan(task: Task, specs: Sequence[PolicySpec], setting: Any, episodes: Episodes) -> Plan:
    """Draw the episodes of a setting and say who decides in them.

    Builds policies once, so that wrong names fail early.

    Raises:
        ValueError: if a policy, or every rival, cannot be built.
    """
    drawn = episodes.drawn(task, setting)
    every = [episode for some in drawn.values() for episode in some]
    members, together = task.subsets(setting, every), task.clusters(setting, every)
    lines, left_out = [], {}
    for spec in (one.in_setting(setting) for one in specs):
        if spec.usual and spec.policy not in task.rivals_of(setting):
            continue
        try:
            declared = spec.declared(setting)
        except registry.Unbuildable as error:
            if not spec.optional:
                raise
            left_out[spec.name] = error.reason
            continue
        lines.append(Line(spec, setting, declared, _pieces(spec, setting, drawn, declared)))
    if not lines:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ValueError(
            f"At least one policy must fit the setting {setting.name!r}, but none can be built "
            f"({reasons}). Name another one with --policy, or change the setting."
        )
    seeds = list(episodes.seeds) or list(task.seeds(setting))
    return Plan(episodes.part, setting, seeds, members, together, lines, left_out)


def _pieces(
    spec: PolicySpec, setting: Any, drawn: Mapping[int, Sequence[Any]], declared: Declared
) -> list[Piece]:
    """The work of a line, in the order of its episodes."""
    size = registry.task(spec.task).chunk
    pieces = []
    for seed, episodes in drawn.items():
        if declared.sequential:
            pieces.append(Piece(spec, setting, episodes, seed, seed))
            continue
        for index, first in enumerate(range(0, len(episodes), size)):
            some = episodes[first : first + size]
            pieces.append(Piece(spec, setting, some, seed, derived_seed(seed, index)))
    return pieces


def run(task: Task, plans: Sequence[Plan], *, jobs: int) -> list[Result]:
    """Do all the work; a result for each line."""
    from tqdm import tqdm

    pieces = [piece for one in plans for line in one.lines for piece in line.pieces]
    done = results((piece.run for piece in pieces), jobs=jobs)
    bar = tqdm(done, total=len(pieces), desc="test", unit="piece", disable=None)
    outcomes = iter(list(bar))
    return [
        result(task, one, line, [next(outcomes) for _ in line.pieces])
        for one in plans
        for line in one.lines
    ]


def result(task: Task, one: Plan, line: Line, outcomes: Sequence[Outcome]) -> Result:
    """What a line's outcomes amount to."""
    every = [row for outcome in outcomes for row in outcome.rows]
    rows = [dict(row) for row in task.pooled(every)]
    for row in rows:
        if row["id"] in one.clusters:
            row["cluster"] = dict(one.clusters[row["id"]])
    seconds = sum(outcome.seconds for outcome in outcomes)
    decisions = sum(outcome.decisions for outcome in outcomes)
    metrics = task.metrics_of(line.setting)
    lineage, identity = line.spec.lineage or Lineage(""), line.spec.facts.identity
    return Result(
        task=task.name,
        setting=line.setting.name,
        policy=line.spec.policy,
        checkpoint=line.spec.checkpoint,
        metrics=summarise(rows, metrics),
        subsets=subsets(rows, metrics, one.members),
        episodes=rows,
        seconds=seconds,
        decisions_per_s=decisions / seconds if seconds > 0 else 0.0,
        sequential=line.declared.sequential,
        knows=line.declared.knows,
        teachers=tuple(line.spec.facts.teachers),
        validity=_share(outcomes, "validity"),
        student=line.spec.student or "",
        when_unsure=line.spec.when_unsure,
        plan=line.spec.plan,
        asked=_share(outcomes, "asked"),
        data=sources.own(line.setting),
        learned=shown(identity.learned, line.episodes) if identity else 0,
        nickname=line.spec.name if line.spec.checkpoint else "",
        recipe=lineage.recipe,
        training_seed=lineage.seed,
        place=line.setting,
    )


def _share(outcomes: Sequence[Outcome], name: str) -> float | None:
    """A share of all decisions, from that of each piece; None where it is not counted."""
    counted = [one for one in outcomes if getattr(one, name) is not None]
    if not counted:
        return None
    shares = [getattr(one, name) for one in counted]
    return float(np.average(shares, weights=[one.decisions for one in counted]))
