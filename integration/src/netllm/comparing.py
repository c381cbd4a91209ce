"""Checkpoints against their rivals, on the same episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netllm.intervals import Estimate, cluster_counts, difference
from netllm.protocol import Metric, Task
from netllm.report import Comparison, Result, best_first, by_setting


def compare(
    results: Sequence[Result],
    task: Task,
    members: Mapping[str, Mapping[str, frozenset[str]]],
) -> list[Comparison]:
    """Every checkpoint against its best rival, the paper's, its teachers and other checkpoints.

    A verdict needs an interval, so at least five episodes, or clusters of episodes.

    Args:
        results: what `test` found.
        task: says which metric decides, which policies know the future and are no rivals, and which
            rivals are the paper's.
        members: per setting the named parts of the test set, as episode ids.

    Raises:
        ValueError: if results of one setting are of different episodes.
    """
    metric = task.metrics[0]
    found = []
    for setting, some in by_setting(results).items():
        check_same_episodes(some)
        for ours in (result for result in some if result.checkpoint):
            for role, rival in _rivals(ours, some, task):
                everything = {"all": None, **members.get(setting, {})}
                for subset, ids in everything.items():
                    found += _compare(ours, rival, role, subset, ids, metric)
    return found


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
            if result.checkpoint and result.checkpoint != ours.checkpoint
        ),
    ]


def _compare(
    ours: Result,
    rival: Result,
    role: str,
    subset: str,
    ids: frozenset[str] | None,
    metric: Metric,
) -> list[Comparison]:
    rows, others = (
        [row for row in result.episodes if ids is None or row["id"] in ids]
        for result in (ours, rival)
    )
    if not rows:
        return []
    delta = difference(rows, others, metric.key)
    return [
        Comparison(
            setting=ours.setting,
            checkpoint=ours.label,
            rival=rival.label,
            role=role,
            subset=subset,
            metric=metric.key,
            difference=delta,
            verdict=verdict_of(delta, metric),
            clusters=cluster_counts(rows),
            knows=rival.knows,
        )
    ]


def verdict_of(delta: Estimate, metric: Metric) -> str:
    """`ahead`, `behind`, `level`, or `none` without an interval."""
    if delta.ci95 is None:
        return "none"
    if delta.ci95[0] <= 0 <= delta.ci95[1]:
        return "level"
    return "ahead" if (delta.mean > 0) == metric.higher_is_better else "behind"
