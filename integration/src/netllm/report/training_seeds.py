"""Checkpoints of one recipe that differ in their training seed, and what is said over the seeds.

A result over episodes tells nothing of the luck in training: another seed gives another model. So
checkpoints of one recipe are also reported together: the mean over seeds, and its spread apart from
the interval over episodes. The verdict on a recipe resamples seeds and episodes, which cross each
other (`netllm.report.clustered_bootstrap`), and like any other needs five of both; the verdict on
each seed's model stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from netllm.report.intervals import Rows, Sample, differences, sample
from netllm.report.metric import Metric
from netllm.report.result import Result, Spread, Trained, by_setting

SEED, RIVALS_SEED = "training seed", "training seed of the rival"


def families(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results in one setting of each recipe of which there are several seeds' models."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.recipe:
            found.setdefault(result.recipe, []).append(result)
    return {recipe: members for recipe, members in found.items() if len(members) > 1}


def trained(results: Sequence[Result], metrics: Sequence[Metric]) -> list[Trained]:
    """Every recipe with several seeds, in every setting."""
    return [
        Trained(
            setting,
            recipe,
            [one.label for one in members],
            [one.training_seed or 0 for one in members],
            {m.key: _spread(members, m.key) for m in metrics if m.key in members[0].metrics},
        )
        for setting, some in by_setting(results).items()
        for recipe, members in families(some).items()
    ]


def _spread(members: Sequence[Result], key: str) -> Spread:
    samples = [sample(one.episodes, key) for one in members]
    seeds = [str(one.training_seed) for one in members]
    every = _crossed(samples, {SEED: seeds}).estimate()
    means = [one.estimate(ci=False).mean for one in samples]
    return Spread(every.mean, every.ci95, means, float(np.std(means, ddof=1)))


def difference_over_seeds(ours: Mapping[str, Rows], theirs: Mapping[str, Rows], key: str) -> Sample:
    """One recipe minus another in a metric, for each seed of both and every episode.

    Args:
        ours: rows by training seed; by any one name, if there is but one model or policy.
        theirs: those of the rival.
        key: of the metric.
    """
    pairs = [(mine, yours) for mine in ours for yours in theirs]
    kinds = {SEED: [mine for mine, _ in pairs], RIVALS_SEED: [yours for _, yours in pairs]}
    several = {
        kind: names
        for (kind, names), side in zip(kinds.items(), (ours, theirs), strict=True)
        if len(side) > 1
    }
    samples = [differences(ours[mine], theirs[yours], key) for mine, yours in pairs]
    return _crossed(samples, several)


def _crossed(samples: Sequence[Sample], kinds: Mapping[str, Sequence[str]]) -> Sample:
    """Samples of the same episodes as one, in which further clusters cross the episodes' own."""
    weights = [one.weights for one in samples if one.weights is not None]
    clusters = {
        kind: [name for one in samples for name in one.clusters[kind]]
        for kind in samples[0].clusters
    }
    for kind, names in kinds.items():
        lengths = [len(one.values) for one in samples]
        clusters[kind] = list(np.repeat(names, lengths))
    return Sample(
        np.concatenate([one.values for one in samples]),
        np.concatenate(weights) if weights else None,
        clusters,
    )
