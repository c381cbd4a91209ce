"""Checkpoints against their rivals, on the same episodes."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

from netllm.report.intervals import Estimate, Rows
from netllm.report.metric import Metric
from netllm.report.result import Comparison, Result, best_first, by_setting
from netllm.report.training_seeds import difference_over_seeds, families

if TYPE_CHECKING:
    from netllm.task import Task


def compare(
    results: Sequence[Result],
    task: Task,
    members: Mapping[str, Mapping[str, frozenset[str]]],
    *,
    about: Container[str] | None = None,
) -> list[Comparison]:
    """Every checkpoint against its best rival, the paper's, its teachers and other checkpoints.

    A verdict needs an interval, so at least five episodes, or clusters of episodes. A recipe that
    comes with several training seeds is compared as well, over seeds and episodes together, with
    other recipes too: that verdict needs five seeds.

    Args:
        results: what `test` found.
        task: says which metric decides, which policies know the future and are no rivals, and which
            rivals are the paper's.
        members: per setting the named parts of the test set, as episode ids.
        about: labels of the checkpoints and recipes that are compared; all if None.

    Raises:
        ValueError: if results of one setting are of different episodes.
    """
    metric = task.metrics[0]
    found = []
    for setting, some in by_setting(results).items():
        check_same_episodes(some)
        parts: dict[str, frozenset[str] | None] = {"all": None, **members.get(setting, {})}
        pairs = [one for one in _pairs(some, task) if about is None or _label(one[0]) in about]
        for (ours, rival, role), (subset, ids) in product(pairs, parts.items()):
            rows, others = _rows(ours, ids), _rows(rival, ids)
            if not all(rows.values()):
                continue
            sample = difference_over_seeds(rows, others, metric.key)
            delta = sample.estimate()
            found.append(
                Comparison(
                    setting=setting,
                    checkpoint=_label(ours),
                    rival=_label(rival),
                    role=role,
                    subset=subset,
                    metric=metric.key,
                    difference=delta,
                    verdict=verdict_of(delta, metric),
                    clusters={kind: len({*names}) for kind, names in sample.clusters.items()},
                    knows=rival[0].knows,
                )
            )
    return found


def _pairs(
    results: Sequence[Result], task: Task
) -> Iterator[tuple[Sequence[Result], Sequence[Result], str]]:
    """Who is compared with whom, and why: models one by one, and recipes with all their seeds."""
    for ours in results:
        if ours.checkpoint:
            yield from (([ours], [rival], role) for role, rival in _rivals(ours, results, task))
    recipes = families(results)
    for members in recipes.values():
        yield from ((members, [rival], role) for role, rival in _rivals(members[0], results, task))
        yield from ((members, rival, "recipe") for rival in recipes.values() if rival != members)


def check_same_episodes(results: Sequence[Result]) -> None:
    """Refuse to set results beside each other that are of different episodes.

    Raises:
        ValueError: with an episode that one of them lacks.
    """
    ids = [{(row["id"], row.get("seed")) for row in result.episodes} for result in results]
    for result, own in zip(results, ids, strict=True):
        if different := own ^ ids[0]:
            episode, seed = min(different, key=str)
            raise ValueError(
                f"All contenders must be tested on the same episodes of {result.setting!r}, but "
                f"{result.label} and {results[0].label} differ in {len(different)}, such as "
                f"{episode!r} with seed {seed}. Test them again together."
            )


def _rivals(ours: Result, results: Sequence[Result], task: Task) -> list[tuple[str, Result]]:
    rivals = [result for result in results if result.policy and result.policy not in task.bounds]
    best = best_first(rivals, task.metrics[0])[:1]
    teachers = [result for result in rivals if result.policy in ours.teachers]
    published = [result for result in rivals if result.policy in task.published]
    return [
        *(("best rival", result) for result in best),
        *(("teacher", result) for result in teachers),
        *(("published", result) for result in published if result not in [*best, *teachers]),
        *(
            ("checkpoint", result)
            for result in results
            if result.checkpoint
            and not (result.recipe or result.student or result.plan)
            and (result.checkpoint != ours.checkpoint or ours.student or ours.plan)
        ),
    ]


def _rows(side: Sequence[Result], ids: frozenset[str] | None) -> dict[str, Rows]:
    """By training seed the rows of some episodes, or of all."""
    return {
        str(one.training_seed): [row for row in one.episodes if ids is None or row["id"] in ids]
        for one in side
    }


def _label(side: Sequence[Result]) -> str:
    return side[0].label if len(side) == 1 else side[0].recipe


def verdict_of(delta: Estimate, metric: Metric) -> str:
    """`ahead`, `behind`, `level`, or `none` without an interval."""
    if delta.ci95 is None:
        return "none"
    if delta.ci95[0] <= 0 <= delta.ci95[1]:
        return "level"
    return "ahead" if (delta.mean > 0) == metric.higher_is_better else "behind"
