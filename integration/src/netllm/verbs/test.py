"""Test: policies and checkpoints on the same episodes, paired."""

# ruff: noqa: PT028 (the verb is called test)

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from netllm import registry
from netllm.data import sources
from netllm.data.overlaps import known, overlaps
from netllm.report.compare import compare
from netllm.report.provenance import device_name, nameable, provenance
from netllm.report.result import Report, Result, subsets, summarise
from netllm.report.training_seeds import Lineage, trained
from netllm.task import Outcome, Task, clusters, training_fields
from netllm.verbs.default_setting import world_of
from netllm.verbs.parallel import results
from netllm.verbs.policy_spec import Contender, Declared, of_checkpoints
from netllm.verbs.warm_up import warm_up


@dataclass(frozen=True)
class _Work:
    """One contender on a run of episodes, with one reset."""

    contender: Contender
    setting: Any
    episodes: Sequence[Any]
    seed: int
    stream: int

    def run(self) -> Outcome:
        try:
            return self._run()
        except Exception as error:
            error.add_note(f"It was {self.contender.name!r} in setting {self.setting.name!r}.")
            raise

    def _run(self) -> Outcome:
        task = registry.task(self.contender.task)
        warm_up(self.contender, self.setting, self.episodes, seed=self.stream)
        policy = self.contender.build(self.setting)
        outcome = task.rollout(policy, self.setting, self.episodes, seed=self.stream)
        rows = [{"seed": self.seed, **row} for row in outcome.rows]
        validity: float | None = getattr(policy, "validity", None)
        return replace(outcome, rows=rows, validity=validity)


@dataclass(frozen=True)
class _Entry:
    """One contender in one setting: a line of the report."""

    contender: Contender
    setting: Any
    declared: Declared
    works: list[_Work]

    @property
    def episodes(self) -> list[Any]:
        """All its episodes."""
        return [episode for work in self.works for episode in work.episodes]


def test(
    task: str,
    *,
    policy: str | Sequence[str] = (),
    checkpoint: str | Path | Sequence[str | Path] = (),
    rivals: str | Sequence[str] = (),
    setting: str | Sequence[str] = (),
    part: str = "test",
    seeds: int | Sequence[int] = (),
    episodes: int | None = None,
    jobs: int = 1,
    data: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    device: str = "auto",
    trust_backbone: bool = False,
) -> Report:
    """Let policies and checkpoints decide in the same episodes, and compare them in pairs.

    Every contender sees the same episodes with the same environment noise. Work is cut into pieces
    of episodes whose size and random streams do not depend on `jobs`. A policy that declares
    `sequential` runs alone, episode by episode in file order, with one reset by the seed itself.

    Args:
        task: `abr`, or another installed task.
        policy: names of policies, `NAME:FILE.npz` for one with weights of one's own, or
            `module:callable` for one's own code.
        checkpoint: folders of runs or checkpoints, patterns such as `runs/seed-*`, `pretrained`
            for the shipped one, or `owner/name` for one on the model hub, if no folder is called
            so. Those of one recipe are also reported over their training seeds.
        rivals: policies that are left out, with a note, of settings that they cannot be built for
            (another ladder than that of their weights, no data folder); the task's usual ones if
            nothing is named.
        setting: names of settings. Where none is named, that which the checkpoints were adapted
            in, with the overrides that they were adapted with; without checkpoints, `default`.
        part: part of the settings: `train`, `valid` or `test`.
        seeds: seeds of random streams, and of episodes where the task draws them; every contender
            runs once with each. Of cjs, job sequences. The task's own if empty.
        episodes: only the first so many episodes.
        jobs: pieces of work that run at once, each in a process of its own; -1 for one per core.
        data: folder of real data; NETLLM_DATA if None.
        set: fields of the settings to override, over a checkpoint's own.
        device: where the models of checkpoints decide: `auto`, `cpu`, `cuda` or `mps`.
        trust_backbone: whether a checkpoint's backbone may be one of a folder or a hub, which is
            fetched; without it only known ones are loaded.

    Raises:
        ValueError: for unknown names (with the nearest known ones) and values that cannot be, and
            if a policy of `policy`, or every one of `rivals`, cannot be built.
    """
    found = registry.task(task)
    contenders = _contenders(
        found, as_names(policy), as_names(checkpoint), as_names(rivals), device, trust_backbone
    )
    if episodes is not None and episodes < 1:
        raise ValueError(f"`episodes` must be at least 1, got {episodes}.")
    check_jobs(jobs)
    world = world_of(
        contenders,
        as_names(setting),
        set or {},
        lambda name, own: found.setting(name, data=data, **own),
    )
    settings = [found.setting(name, data=data, **world.overrides) for name in world.settings]
    asked = _asked(seeds)
    entries, members, left_out = [], {}, {}
    together: dict[str, Mapping[str, Mapping[str, str]]] = {}
    for one in settings:
        drawn = _drawn(found, one, part, episodes, asked)
        every = [episode for some in drawn.values() for episode in some]
        members[one.name] = found.subsets(one, every)
        together[one.name] = clusters(found, one, every)
        some, reasons = _entries(contenders, one, drawn)
        entries += some
        if reasons:
            left_out[one.name] = reasons
    results = _results(found, entries, members, together, jobs)
    untested = frozenset().union(*map(training_fields, settings))
    notes = [
        *_notes(settings, results),
        *overlaps(entries),
        *world.notes,
        *_elsewhere(contenders, nameable(world.overrides), untested),
    ]
    numbers = {one.name: asked or list(found.seeds(one)) for one in settings}
    facts: dict[str, Any] = {
        "task": task,
        "part": part,
        "seeds": numbers,
        "overrides": nameable(world.overrides),
    }
    facts["left_out"] = left_out
    facts["sources"] = {one.name: sources.kept(sources.sources(one)) for one in settings}
    if files := sources.weights(entry.contender for entry in entries):
        facts["weights"] = sources.kept(dict.fromkeys(files))
    if checkpoint:
        facts["device"] = device_name(device)
    return Report(
        results=results,
        comparisons=compare(results, found, members),
        provenance=provenance(**facts, data=_data(settings), notes=notes),
        metrics=found.metrics,
        bounds=found.bounds,
        recipes=trained(results, found.metrics),
    )


def as_names(given: str | Path | Sequence[str | Path]) -> list[str]:
    """One name or several, each once."""
    some = [given] if isinstance(given, str | Path) else given
    return list(dict.fromkeys(str(one) for one in some))


def check_jobs(jobs: int) -> None:
    """Refuse a number of pieces of work at once that means nothing.

    Raises:
        ValueError: if it is 0.
    """
    if jobs == 0:
        raise ValueError("`jobs` must be at least 1, or -1 for one per core, got 0.")


def _asked(seeds: int | Sequence[int]) -> list[int]:
    """The seeds that were asked for, each once."""
    asked = [seeds] if isinstance(seeds, int) else list(dict.fromkeys(seeds))
    if asked and min(asked) < 0:
        raise ValueError(f"`seeds` must be whole numbers >= 0, got {min(asked)}.")
    return asked


def _contenders(
    task: Task,
    policies: list[str],
    checkpoints: list[str],
    rivals: list[str],
    device: str,
    trust_backbone: bool,
) -> list[Contender]:
    if not (policies or checkpoints or rivals):
        rivals = list(task.rivals)
    others = [name for name in rivals if name not in policies]
    return [
        *(Contender(task.name, policy=name) for name in policies),
        *(Contender(task.name, policy=name, optional=True) for name in others),
        *of_checkpoints(task.name, checkpoints, device=device, trust_backbone=trust_backbone),
    ]


def _drawn(
    task: Task, setting: Any, part: str, count: int | None, asked: Sequence[int]
) -> Mapping[int, Sequence[Any]]:
    """The episodes of every seed; those that seeds name are run together."""
    if asked and (named := task.by_seed(setting, part, asked)) is not None:
        return {asked[0]: named[:count]}
    return {
        seed: task.episodes(setting, part, count=count, seed=seed)
        for seed in asked or task.seeds(setting)
    }


def _entries(
    contenders: Sequence[Contender], setting: Any, drawn: Mapping[int, Sequence[Any]]
) -> tuple[list[_Entry], dict[str, str]]:
    """Lines of a setting's report, and why a rival has none.

    Builds policies once, so that wrong names fail early.
    """
    entries, left_out = [], {}
    for contender in contenders:
        try:
            declared = contender.declared(setting)
        except registry.Unbuildable as error:
            if not contender.optional:
                raise
            left_out[contender.name] = error.reason
            continue
        entries.append(_entry(contender, setting, drawn, declared))
    if not entries:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ValueError(
            f"At least one policy must fit the setting {setting.name!r}, but none can be built "
            f"({reasons}). Name another one with --policy, or change the setting."
        )
    return entries, left_out


def _entry(
    contender: Contender, setting: Any, drawn: Mapping[int, Sequence[Any]], declared: Declared
) -> _Entry:
    """A line of the report with its work."""
    chunk = registry.task(contender.task).chunk
    works = []
    for seed, episodes in drawn.items():
        if declared.sequential:
            works.append(_Work(contender, setting, episodes, seed, seed))
            continue
        for index, first in enumerate(range(0, len(episodes), chunk)):
            piece = episodes[first : first + chunk]
            works.append(_Work(contender, setting, piece, seed, stream(seed, index)))
    return _Entry(contender, setting, declared, works)


def stream(seed: int, index: int) -> int:
    """The seed of the piece of work `index`: pieces of one seed must not repeat each other."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


def _run(works: Sequence[_Work], jobs: int) -> list[Outcome]:
    from tqdm import tqdm

    outcomes = results((work.run for work in works), jobs=jobs)
    return list(tqdm(outcomes, total=len(works), desc="test", unit="piece", disable=None))


def _results(
    task: Task,
    entries: Sequence[_Entry],
    members: Mapping[str, Mapping[str, frozenset[str]]],
    together: Mapping[str, Mapping[str, Mapping[str, str]]],
    jobs: int,
) -> list[Result]:
    """The lines of the report, from all their work done."""
    outcomes = iter(_run([work for entry in entries for work in entry.works], jobs))
    found = []
    for entry in entries:
        own = [next(outcomes) for _ in entry.works]
        rows = _rows(own, together[entry.setting.name])
        found.append(_result(task, entry, own, rows, members[entry.setting.name]))
    return found


def _rows(
    outcomes: Sequence[Outcome], together: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """A row per episode and seed, with the clusters that the episode belongs to."""
    rows = [dict(row) for outcome in outcomes for row in outcome.rows]
    for row in rows:
        if row["id"] in together:
            row["cluster"] = dict(together[row["id"]])
    return rows


def _result(
    task: Task,
    entry: _Entry,
    outcomes: Sequence[Outcome],
    rows: list[dict[str, Any]],
    members: Mapping[str, frozenset[str]],
) -> Result:
    seconds = sum(outcome.seconds for outcome in outcomes)
    decisions = sum(outcome.decisions for outcome in outcomes)
    lineage = entry.contender.lineage or Lineage("")
    return Result(
        task=task.name,
        setting=entry.setting.name,
        policy=entry.contender.policy,
        checkpoint=entry.contender.checkpoint,
        metrics=summarise(rows, task.metrics),
        subsets=subsets(rows, task.metrics, members),
        episodes=rows,
        seconds=seconds,
        decisions_per_s=decisions / seconds if seconds > 0 else 0.0,
        sequential=entry.declared.sequential,
        knows=entry.declared.knows,
        teachers=entry.contender.teachers(),
        validity=_validity(outcomes),
        data=sources.own(entry.setting),
        learned=known(entry.contender, entry.episodes),
        nickname=lineage.nickname,
        recipe=lineage.recipe,
        training_seed=lineage.seed,
        place=entry.setting,
    )


def _validity(outcomes: Sequence[Outcome]) -> float | None:
    """The share of valid answers of all pieces of work; None if the policy does not count them."""
    counted = [(one.validity, one.decisions) for one in outcomes if one.validity is not None]
    if not counted:
        return None
    shares, weights = zip(*counted, strict=True)
    return float(np.average(shares, weights=weights))


def _data(settings: Sequence[Any]) -> dict[str, str]:
    return {one.name: sources.world(one) for one in settings}


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
                "were not valid. Its figures are of what it put in their place."
            )


def _elsewhere(
    contenders: Sequence[Contender], overrides: Mapping[str, Any], untested: frozenset[str]
) -> Iterator[str]:
    """Which checkpoints were adapted to another setting than this one, by what they say.

    Fields that act on training alone are `untested`.
    """
    for one in contenders:
        own = {key: value for key, value in one.overrides().items() if key not in untested}
        missing = [key for key in own if overrides.get(key) != own[key]]
        if missing:
            fields = " ".join(f"{key}={own[key]}" for key in missing)
            yield (
                f"{one.checkpoint} was adapted with --set {fields}, which this test does not have: "
                "other data or another environment than it learned from."
            )
