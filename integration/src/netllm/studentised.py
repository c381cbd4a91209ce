"""Limits of a mean that hold for few, skewed, weighed and clustered values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

LEAST = 5
"""Clusters below which there is no interval: no method covers what it promises with so few."""
SHARE_OUTSIDE = 0.05
_RESAMPLES, _FEWER_RESAMPLES, _MANY_CLUSTERS = 3_999, 999, 1_000
_CONSTANT = 1e-12


def limits(
    values: Float[ndarray, "*sample unit"],
    weights: Float[ndarray, "unit"],
    ways: Sequence[Int[ndarray, "unit"]],
) -> tuple[Float[ndarray, "*sample"], Float[ndarray, "*sample"]]:
    """The 95 % interval of a weighed mean, for every sample of a batch.

    The limits are `mean - high * error` and `mean - low * error`. `error` is the mean's standard
    error. `low` and `high` are quantiles of (mean - true mean) / error, from resampling clusters
    with the error estimated anew in every resample (the studentised bootstrap, which follows
    skewness), but never closer to zero than Student's, as they would be for symmetric heavy tails.
    With n clusters, the quantiles leave out 5 % * (1 - 4 / (3 √n)) in place of 5 %: found by
    simulation, so that means of few lognormal values are covered as well (`test_coverage.py`).
    Few values pay for it: of five normal ones the interval is twice as wide as Student's, of ten a
    quarter wider, of a hundred 4 %.

    Values may be clustered in several ways that cross each other, such as viewers and videos: the
    variance is then that of each way, less that of their intersections, and at least that of every
    way alone, and the quantiles are those of the way with the fewest clusters. So the interval is
    about other viewers and other videos, not about these viewers or these videos.

    Args:
        values: per unit, such as an episode.
        weights: how much each unit counts.
        ways: per way of clustering the number of every unit's cluster, 0 ... n - 1, with at least
            five clusters each.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 12.5; Cameron,
    Gelbach and Miller, Robust Inference With Multiway Clustering (2011), equation 2.11. The
    greater of both quantiles and the correction for few clusters are ours.
    """
    mean = (values @ weights / weights.sum())[..., None]
    away = (values - mean) * weights
    fewest = min(ways, key=lambda codes: codes.max())
    low, high = _quantiles(_by_cluster(away, fewest), _by_cluster(weights, fewest))
    error = _standard_error(away, weights.sum(), ways)
    return mean[..., 0] - high * error, mean[..., 0] - low * error


def _standard_error(
    away: Float[ndarray, "*sample unit"], total: float, ways: Sequence[Int[ndarray, "unit"]]
) -> Float[ndarray, "*sample"]:
    """Of a mean whose units lie so far `away` from it, times their weights."""
    alone = [_variance(away, total, codes) for codes in ways]
    variance = sum(alone, np.zeros(away.shape[:-1]))
    for count in range(2, len(ways) + 1):
        for some in combinations(ways, count):
            both = np.unique(np.stack(some), axis=1, return_inverse=True)[1].ravel()
            variance = variance + (-1) ** (count + 1) * _variance(away, total, both)
    root: ndarray = np.sqrt(np.maximum(variance, np.max(alone, axis=0)))
    return root


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
    from scipy.special import stdtrit

    count = len(weights)
    student = float(stdtrit(count - 1, 1 - SHARE_OUTSIDE / 2))
    drawn = [_studentised(away, weights, draws) for draws in _draws(count)]
    found = np.concatenate(drawn, axis=-1)
    # A resample of one value over and over has no error: it is as far out as any other one is.
    for side in (-1, 1):
        furthest = np.where(np.isfinite(found), side * found, 0).max(-1, keepdims=True)
        found = np.where(found == side * np.inf, side * furthest, found)
    share = SHARE_OUTSIDE / 2 * (1 - 4 / (3 * np.sqrt(count)))
    place = int((found.shape[-1] + 1) * share) - 1
    places = [place, found.shape[-1] - 1 - place]
    low, high = np.moveaxis(np.partition(found, places, axis=-1)[..., places], -1, 0)
    return np.minimum(low, -student), np.maximum(high, student)


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
