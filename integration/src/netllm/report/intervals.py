"""Means of results with intervals, alone and in pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm.report.clustered_bootstrap import LEAST, limits

EPISODE, CLUSTER = "episode", "cluster"
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Estimate:
    """A mean over episodes and its 95 % interval."""

    mean: float
    ci95: tuple[float, float] | None
    """None when there are fewer than five episodes, or clusters of them: too few to tell."""

    def within(self, low: float, high: float) -> Estimate:
        """The same with an interval that ends where values do."""
        if self.ci95 is None:
            return self
        return Estimate(self.mean, (max(self.ci95[0], low), min(self.ci95[1], high)))


@dataclass(frozen=True)
class Sample:
    """Values of one metric, and what they have in common."""

    values: Float[ndarray, "unit"]
    """One per episode."""
    weights: Float[ndarray, "unit"] | None = None
    """How much each counts, such as the number of its predictions; alike if None."""
    clusters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By kind, such as `trace`, the name of every value's cluster; values of one cluster depend on
    each other. Every value is a cluster of its own if there is none."""

    def estimate(self, *, ci: bool = True) -> Estimate:
        """The mean of some values, with its interval if `ci`.

        The interval covers the true mean in 95 of 100 cases from five values on, skewed ones too,
        and is None with fewer; see `netllm.report.clustered_bootstrap`. The same values always give
        the same digits.
        """
        values, weights = np.asarray(self.values, dtype=float), self.weights
        alike = weights is None or np.ptp(weights) == 0
        mean = float(values.mean() if alike else np.average(values, weights=weights))
        if not ci:
            return Estimate(mean, None)
        named: list[Any] = [*self.clusters.values()] or [range(len(values))]
        ways = [np.unique(np.asarray(names), return_inverse=True)[1] for names in named]
        if min(codes.max() for codes in ways) + 1 < LEAST:
            return Estimate(mean, None)
        if np.ptp(values) <= 1e-12 * np.abs(values).max():
            return Estimate(mean, (mean, mean))
        counts = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
        low, high = limits(values, counts, ways)
        return Estimate(mean, (float(low), float(high)))


def by_episode(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, float]:
    """The value of each episode; its mean where it was run with several seeds."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["id"], []).append(row[key])
    return {episode: float(np.mean(some)) for episode, some in values.items()}


def clusters_of(rows: Rows) -> dict[str, dict[str, str]]:
    """By kind of cluster that of each episode; of the kind `episode`, if the rows name none.

    A row names its clusters by kind, `{"trace": "norway_bus_1"}`, or its only one by a string.
    """
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        named = row.get("cluster", {EPISODE: row["id"]})
        for kind, name in ({CLUSTER: named} if isinstance(named, str) else named).items():
            found.setdefault(kind, {})[row["id"]] = str(name)
    return found


def cluster_counts(rows: Rows) -> dict[str, int]:
    """How many clusters of each kind the episodes of some rows belong to."""
    return {kind: len(set(names.values())) for kind, names in clusters_of(rows).items()}


def counted(clusters: Mapping[str, int]) -> str:
    """How many there are of each kind, in words."""
    return ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in clusters.items())


def extent(rows: Rows) -> str:
    """How many episodes there are, and of how many clusters, in words."""
    clusters = {kind: count for kind, count in cluster_counts(rows).items() if kind != EPISODE}
    episodes = counted({EPISODE: len({row["id"] for row in rows})})
    return f"{episodes} ({counted(clusters)})" if clusters else episodes


def sample(rows: Rows, key: str) -> Sample:
    """A metric of every episode."""
    return _sample(by_episode(rows, key), rows)


def differences(rows: Rows, others: Rows, key: str) -> Sample:
    """`rows` minus `others` in a metric, episode by episode.

    Raises:
        ValueError: if one of them has an episode that the other lacks.
    """
    ours, theirs = by_episode(rows, key), by_episode(others, key)
    if different := ours.keys() ^ theirs.keys():
        raise ValueError(
            "A paired difference needs the same episodes on both sides, got "
            f"{len(different)} that only one of them has, such as {min(different)!r}."
        )
    return _sample({episode: ours[episode] - theirs[episode] for episode in ours}, rows)


def _sample(values: Mapping[str, float], rows: Rows) -> Sample:
    clusters = clusters_of(rows)
    weights = by_episode(rows, "weight") if "weight" in rows[0] else None
    return Sample(
        np.array(list(values.values())),
        None if weights is None else np.array([weights[episode] for episode in values]),
        {
            kind: [names.get(episode, episode) for episode in values]
            for kind, names in clusters.items()
        },
    )


def mean_of(rows: Rows, key: str, *, ci: bool = True) -> Estimate:
    """The mean of a metric over episodes, weighted where they have weights, with its interval."""
    return sample(rows, key).estimate(ci=ci)
