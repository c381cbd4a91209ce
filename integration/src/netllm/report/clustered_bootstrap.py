"""Limits of a mean that hold for few, skewed, weighed and clustered values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

LEAST = 5
"""Clusters below which there is no interval: no method covers what it promises with so few."""
SHARE_OUTSIDE = 0.05
_RESAMPLES, _FEWER_RESAMPLES, _MANY_CLUSTERS = 3_999, 999, 1_000
_CONSTANT = 1e-12
_FURTHEST = 3


def limits(
    values: Float[ndarray, "*sample unit"],
    weights: Float[ndarray, "unit"],
    ways: Sequence[Int[ndarray, "unit"]],
) -> tuple[Float[ndarray, "*sample"], Float[ndarray, "*sample"]]:
    """The 95 % interval of a weighed mean, for every sample of a batch.

    The limits lie quantiles of (mean - true mean) / error away from the mean, where `error` is its
    standard error. The quantiles come from resampling clusters, with the error estimated anew in
    every resample (the studentised bootstrap, which follows skewness); they are never closer to
    zero than Student's, as they would be for symmetric heavy tails, nor three times as far. With n
    clusters, they leave out 5 % * (1 - 4 / (3 √n)) in place of 5 %: found by simulation, so that
    means of few lognormal values are covered as well (`test_coverage.py`). Few values pay for it:
    of five normal ones the interval is twice as wide as Student's, of ten a quarter wider, of a
    hundred 4 %.

    Values may be clustered in several ways that cross each other, such as viewers and videos. The
    square of the way to a limit is then the sum of those of each way alone, less that of their
    intersections, which both hold, and at least that of every way alone. So the interval is about
    other viewers and other videos, not about these viewers or these videos.

    Args:
        values: per unit, such as an episode.
        weights: how much each unit counts.
        ways: per way of clustering the number of every unit's cluster, 0 ... n - 1, with at least
            five clusters each.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 12.5; Cameron,
    Gelbach and Miller, Robust Inference With Multiway Clustering (2011), equation 2.11, whose
    variances are squared ways here, as in Zou and Donner, Construction of Confidence Limits About
    Effect Measures (2008). Bounds of the quantiles and the correction for few clusters are ours.
    """
    total = weights.sum()
    mean = values @ weights / total
    away = (values - mean[..., None]) * weights
    below, above = [], []
    for codes in ways:
        low, high = _quantiles(_by_cluster(away, codes), _by_cluster(weights, codes))
        variance = _variance(away, total, codes)
        below.append(high**2 * variance)
        above.append(low**2 * variance)
    twice = _twice(away, total, ways)
    down, up = (
        np.sqrt(np.maximum(np.sum(side, axis=0) - twice, np.max(side, axis=0)))
        for side in (below, above)
    )
    return mean - down, mean + up


def _twice(
    away: Float[ndarray, "*sample unit"], total: float, ways: Sequence[Int[ndarray, "unit"]]
) -> Float[ndarray, "*sample"]:
    """The squared way that the sum over ways of clustering holds more than once."""
    found = np.zeros(away.shape[:-1])
    for size in range(2, len(ways) + 1):
        for some in combinations(ways, size):
            both = np.unique(np.stack(some), axis=1, return_inverse=True)[1].ravel()
            squared = _student(both.max() + 1) ** 2 * _variance(away, total, both)
            found += (-1) ** size * squared
    return found


def _student(count: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, 1 - SHARE_OUTSIDE / 2))


def _variance(
    away: Float[ndarray, "*sample unit"], total: float, codes: Int[ndarray, "unit"]
) -> Float[ndarray, "*sample"]:
    clusters = _by_cluster(away, codes)
    count = clusters.shape[-1]
    found: ndarray = count / (count - 1) * (clusters**2).sum(-1) / total**2
    return found


def _by_cluster(
    values: Float[ndarray, "*sample unit"], codes: Int[ndarray, "unit"]
) -> Float[ndarray, "*sample cluster"]:
    """Sums over the units of every cluster."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    sums: ndarray = np.add.reduceat(values[..., order], starts, axis=-1)
    return sums


def _quantiles(
    away: Float[ndarray, "*sample cluster"], weights: Float[ndarray, "cluster"]
) -> tuple[Float[ndarray, "*sample"], Float[ndarray, "*sample"]]:
    """Of the studentised mean: the lower and the upper one."""
    count = len(weights)
    student = _student(count)
    drawn = [
        _studentised(away, weights, draws) for draws in (_kept if count <= 200 else _draws)(count)
    ]
    found = np.concatenate(drawn, axis=-1)
    # A resample of one value over and over has no error: it is as far out as any other one is.
    for side in (-1, 1):
        furthest = np.where(np.isfinite(found), side * found, 0).max(-1, keepdims=True)
        found = np.where(found == side * np.inf, side * furthest, found)
    share = SHARE_OUTSIDE / 2 * (1 - 4 / (3 * np.sqrt(count)))
    place = int((found.shape[-1] + 1) * share) - 1
    places = [place, found.shape[-1] - 1 - place]
    low, high = np.moveaxis(np.partition(found, places, axis=-1)[..., places], -1, 0)
    most = _FURTHEST * student
    return np.clip(low, -most, -student), np.clip(high, student, most)


def _studentised(
    away: Float[ndarray, "*sample cluster"],
    weights: Float[ndarray, "cluster"],
    draws: Float[ndarray, "resample cluster"],
) -> Float[ndarray, "*sample resample"]:
    """The mean of every resample, of clusters whose mean is 0, over its standard error."""
    count = len(weights)
    total = draws @ weights
    mean = away @ draws.T / total
    squares = (
        away**2 @ draws.T - 2 * mean * ((away * weights) @ draws.T) + mean**2 * (draws @ weights**2)
    )
    usual = (away**2).sum(-1, keepdims=True)
    constant = squares <= _CONSTANT * usual
    error = np.sqrt(np.where(constant, 1, squares) * count / (count - 1)) / total
    return np.where(constant, np.copysign(np.inf, mean), mean / error)


@lru_cache(maxsize=4)
def _kept(count: int) -> tuple[Float[ndarray, "resample cluster"], ...]:
    """The same for few clusters, which most metrics of a table share."""
    return tuple(_draws(count))


def _draws(count: int) -> Iterator[Float[ndarray, "resample cluster"]]:
    """How often every cluster is drawn in each resample, always the same; some at a time."""
    rng = np.random.default_rng(0)
    left = _RESAMPLES if count <= _MANY_CLUSTERS else _FEWER_RESAMPLES
    while left:
        size = min(left, max(1, 4_000_000 // count))
        drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield counts.astype(np.float64)
        left -= size
