"""Means with bootstrap intervals, alone and in pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

RESAMPLES = 9_999


@dataclass(frozen=True)
class Estimate:
    """A mean over episodes and its 95 % interval."""

    mean: float
    ci95: tuple[float, float] | None
    """None when there are too few episodes to tell."""


def estimate(values: Float[np.ndarray, "episode"]) -> Estimate:
    """The mean of some values, with its bootstrap interval.

    The interval is bias-corrected and accelerated (BCa), from a fixed seed, so the same episodes
    always give the same digits.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 14, through
    `scipy.stats.bootstrap`.
    """
    from scipy.stats import bootstrap

    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, None)
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return Estimate(mean, (mean, mean))
    interval = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=1_000, rng=np.random.default_rng(0)
    ).confidence_interval
    return Estimate(mean, (float(interval.low), float(interval.high)))


def by_episode(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, float]:
    """The value of each episode; its mean where it was run with several seeds."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["id"], []).append(row[key])
    return {episode: float(np.mean(some)) for episode, some in values.items()}


def mean_of(rows: Sequence[Mapping[str, Any]], key: str) -> Estimate:
    """The mean of a metric over episodes, with its interval."""
    return estimate(np.array(list(by_episode(rows, key).values())))


def difference(
    rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], key: str
) -> Estimate:
    """The mean of `rows` minus `others`, episode by episode, with its interval.

    Raises:
        ValueError: if they have no episode in common.
    """
    ours, theirs = by_episode(rows, key), by_episode(others, key)
    common = [episode for episode in ours if episode in theirs]
    if not common:
        raise ValueError("A paired difference needs common episodes, but there are none.")
    return estimate(np.array([ours[episode] - theirs[episode] for episode in common]))
