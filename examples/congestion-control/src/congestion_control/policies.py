"""The rivals. A policy is anything with `reset(seed)` and `act(observation)`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from congestion_control.link import FACTORS, Setting

HALVE, LESS, KEEP, MORE, MUCH_MORE = range(5)


class AIMD:
    """Raise the rate until something is lost, then halve it.

    Source: Chiu and Jain, Computer Networks and ISDN Systems 1989; there the rise is additive.
    """

    def __init__(self, setting: Setting) -> None:
        pass

    def reset(self, seed: int) -> None:
        """Nothing to begin."""

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """An index of `FACTORS` per sender."""
        return np.where(observation["lost"] > 0, HALVE, MORE)


class Delay(AIMD):
    """Raise the rate while nothing waits, lower it while much does.

    Source: after TCP Vegas (Brakmo and Peterson, IEEE JSAC 1995), which counts packets in queues.
    """

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """An index of `FACTORS` per sender."""
        wait = observation["wait"]
        return np.select([wait > 0.5, wait > 0.1, wait > 0], [HALVE, LESS, KEEP], MORE)


class Blend(Delay):
    """Delay, which leaves one answer in ten to chance: a teacher with probabilities."""

    def probabilities(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of every one of `FACTORS`, (sender, factor)."""
        return 0.9 * np.eye(len(FACTORS))[self.act(observation)] + 0.1 / len(FACTORS)
