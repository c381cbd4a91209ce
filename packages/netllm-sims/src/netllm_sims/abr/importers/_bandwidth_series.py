"""Bandwidth over time as importers read it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray


class Series(NamedTuple):
    """A trace to be: `bandwidth_mbps[i]` holds up to `time_s[i]`, and the first point is at 0."""

    id: str
    where: str
    """The file it came from, and its line there, for errors."""
    time_s: Float[ndarray, "point"]
    bandwidth_mbps: Float[ndarray, "point"]
    of_many: bool = False
    """Whether the file holds others too, so that this one may be left out."""


def of_intervals(
    id: str,
    where: str,
    lengths_ms: Sequence[float] | ndarray,
    bandwidth_mbps: Sequence[float] | ndarray,
    *,
    of_many: bool = False,
) -> Series:
    """The series of intervals that follow one another, each with a bandwidth of its own.

    Args:
        id: Its name.
        where: Where it came from.
        lengths_ms: Length of each interval, in ms.
        bandwidth_mbps: Bandwidth during each.
        of_many: Whether it may be left out.
    """
    ends_s = np.cumsum(np.asarray(lengths_ms, dtype=np.float64)) / 1e3
    return _from_zero(id, where, ends_s, bandwidth_mbps, of_many)


def of_seconds(
    id: str,
    where: str,
    at_s: Sequence[float],
    bandwidth_mbps: Sequence[float],
    *,
    of_many: bool = False,
) -> Series:
    """The series of a reading per second, the first of which tells of the second up to it.

    Args:
        id: Its name.
        where: Where it came from.
        at_s: When the readings were taken, in s from anywhere.
        bandwidth_mbps: The readings; each tells of the time since the one before.
        of_many: Whether it may be left out.
    """
    at = np.asarray(at_s, dtype=np.float64)
    return _from_zero(id, where, at - at[:1] + 1, bandwidth_mbps, of_many)


def _from_zero(
    id: str, where: str, ends_s: ndarray, mbps: Sequence[float] | ndarray, of_many: bool
) -> Series:
    """With a first point at 0, of which no simulator uses the bandwidth."""
    rates = np.asarray(mbps, dtype=np.float64)
    start_s = np.zeros(min(1, len(ends_s)))
    return Series(
        id,
        where,
        np.concatenate([start_s, ends_s]),
        np.concatenate([rates[:1], rates]),
        of_many,
    )
