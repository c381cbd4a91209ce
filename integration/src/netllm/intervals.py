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


def estimate(
    values: Float[np.ndarray, "episode"],
    weights: Float[np.ndarray, "episode"] | None = None,
    *,
    ci: bool = True,
) -> Estimate:
    """The mean of some values, with its bootstrap interval.

    The interval is bias-corrected and accelerated (BCa), from a fixed seed, so the same episodes
    always give the same digits. Episodes are what is drawn again, with their weights.

    Args:
        values: one per episode.
        weights: how much each counts, such as the number of its predictions; alike if None.
        ci: whether the interval is wanted.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 14, through
    `scipy.stats.bootstrap`.
    """
    from scipy.stats import bootstrap

    alike = weights is None or np.ptp(weights) == 0
    data = (values,) if alike else (values, weights)
    mean_along: Any = np.mean if alike else _weighted_mean
    mean = float(mean_along(*data, axis=-1))
    if not ci or len(values) < 2:
        return Estimate(mean, None)
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return Estimate(mean, (mean, mean))
    interval = bootstrap(
        data,
        mean_along,
        paired=len(data) > 1,
        n_resamples=RESAMPLES,
        batch=1_000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(mean, (float(interval.low), float(interval.high)))


def _weighted_mean(values: np.ndarray, weights: np.ndarray, axis: int = -1) -> Any:
    return (values * weights).sum(axis) / weights.sum(axis)


def by_episode(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, float]:
    """The value of each episode; its mean where it was run with several seeds."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["id"], []).append(row[key])
    return {episode: float(np.mean(some)) for episode, some in values.items()}


def _weights(rows: Sequence[Mapping[str, Any]], episodes: Iterable[str]) -> np.ndarray | None:
    """The weights of some episodes, if the rows have any."""
    if "weight" not in rows[0]:
        return None
    weight = by_episode(rows, "weight")
    return np.array([weight[episode] for episode in episodes])


def mean_of(rows: Sequence[Mapping[str, Any]], key: str, *, ci: bool = True) -> Estimate:
    """The mean of a metric over episodes, weighted where they have weights, with its interval."""
    values = by_episode(rows, key)
    return estimate(np.array(list(values.values())), _weights(rows, values), ci=ci)


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
    differences = np.array([ours[episode] - theirs[episode] for episode in common])
    return estimate(differences, _weights(rows, common))
