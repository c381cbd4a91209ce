"""The report of a test: comparisons, provenance, and notes on what a reader must know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netllm.data import sources
from netllm.deciders.policy_spec import PolicySpec, weight_sources
from netllm.report.compare import compare
from netllm.report.provenance import device_name, nameable, provenance
from netllm.report.report import Report
from netllm.report.result import Result
from netllm.report.training_seeds import trained
from netllm.task import Task, training_fields
from netllm.verbs.default_setting import World
from netllm.verbs.pieces import Line
from netllm.verbs.testing.measure_policies import Plan
from netllm.verbs.testing.train_test_overlaps import overlaps


def make_report(
    task: Task,
    plans: Sequence[Plan],
    results: Sequence[Result],
    world: World,
    specs: Sequence[PolicySpec],
    *,
    device: str,
) -> Report:
    """Results with comparisons, what they were made with, and what a reader must know.

    Args:
        task: says which metric decides, and who is compared.
        plans: what was done in each setting.
        results: what came of it.
        world: why there.
        specs: who was tested.
        device: where models of checkpoints decided, as asked for.
    """
    settings = [one.setting for one in plans]
    lines = [line for one in plans for line in one.lines]
    overrides = nameable(world.overrides)
    untested = frozenset().union(*map(training_fields, settings))
    metrics = tuple(dict.fromkeys(m for one in settings for m in task.metrics_of(one)))
    learned = any(spec.checkpoint is not None for spec in specs)
    made_with = provenance(
        task=task.name,
        part=plans[0].part,
        seeds={one.setting.name: list(one.seeds) for one in plans},
        overrides=overrides,
        left_out={one.setting.name: dict(one.left_out) for one in plans if one.left_out},
        sources={one.name: sources.kept(sources.sources(one)) for one in settings},
        **_weights(lines),
        **({"device": device_name(device)} if learned else {}),
        data={one.name: sources.world(one) for one in settings},
        notes=[
            *_notes(settings, results),
            *overlaps(lines),
            *world.notes,
            *_elsewhere(specs, overrides, untested),
        ],
    )
    return Report(
        results=list(results),
        comparisons=compare(results, task, {one.setting.name: one.members for one in plans}),
        provenance=made_with,
        metrics=metrics,
        bounds=task.bounds,
        recipes=trained(results, metrics),
    )


def _weights(lines: Sequence[Line]) -> dict[str, Any]:
    files = dict.fromkeys(weight_sources(line.spec for line in lines))
    return {"weights": sources.kept(files)} if files else {}


def _notes(settings: Sequence[Any], results: Sequence[Result]) -> Iterator[str]:
    for one in settings:
        yield from sources.notes(one)
    for name in dict.fromkeys(result.label for result in results if result.sequential):
        yield (
            f"{name} carries state or a random stream from episode to episode: it ran alone, "
            "in file order, with one reset."
        )
    for result in results:
        if result.validity is not None and result.validity < 1:
            yield (
                f"{result.label} in {result.setting}: {1 - result.validity:.1%} of its answers "
                "were not valid or not safe. Its figures are of what it put in their place."
            )


def _elsewhere(
    specs: Sequence[PolicySpec], overrides: Mapping[str, Any], untested: frozenset[str]
) -> Iterator[str]:
    """Which checkpoints were adapted to another setting than this one, by what they say.

    Fields that act on training alone are `untested`.
    """
    for one in specs:
        own = {key: value for key, value in one.facts.overrides.items() if key not in untested}
        missing = [key for key in own if overrides.get(key) != own[key]]
        if missing:
            fields = " ".join(f"{key}={own[key]}" for key in missing)
            yield (
                f"{one.checkpoint} was adapted with --set {fields}, which this test does not have: "
                "other data or another environment than it learned from."
            )
