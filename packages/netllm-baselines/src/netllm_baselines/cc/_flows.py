"""What the rivals share: what an interval brought, and what they remember of each flow."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

if TYPE_CHECKING:
    from netllm_sims.cc import Setting

Observation = Mapping[str, ndarray]
Rows = dict[str, ndarray]
"""What is remembered, by name; one row per flow."""

_PACKETS_PER_MBPS_MS = 1 / 12
"""Packets of 1,500 bytes that 1 Mbit/s carries in 1 ms."""


class Interval(NamedTuple):
    """What the last monitoring interval brought."""

    acked: Float[ndarray, "batch"]
    """Packets acknowledged."""
    lost: Float[ndarray, "batch"]
    """Packets lost; 1 where only losses came."""
    rtt_s: Float[ndarray, "batch"]
    """Mean round-trip time."""
    min_rtt_s: Float[ndarray, "batch"]
    """Shortest round trip so far."""
    length_s: Float[ndarray, "batch"]
    """Its length."""


class Flows(ABC):
    """A rule that remembers some numbers of each flow, and sets its rate and window.

    Args:
        setting: Where it acts; the rules need nothing of it.
    """

    def __init__(self, setting: "Setting") -> None:
        self._rows: Rows = {}

    def reset(self, seed: int) -> None:
        """Forget all flows."""
        self._rows = {}

    def act(self, observation: Observation) -> Float[ndarray, "batch 2"]:
        """Pacing rate in Mbit/s and congestion window in packets of each flow.

        Raises:
            ValueError: The batch changed its size in the middle of its flows.
        """
        begins = observation["rtt_ms"][:, -1] == 0
        batch = len(begins)
        known = len(next(iter(self._rows.values()))) if self._rows else 0
        if known != batch and not begins.all():
            raise ValueError(
                f"The observation must hold the same {known} flows as before, got {batch}. Call "
                "`reset` before other flows."
            )
        if known != batch:
            self._rows = self.fresh(batch)
        elif begins.any():
            for name, values in self.fresh(int(begins.sum())).items():
                self._rows[name][begins] = values
        return self.decide(self._rows, newest(observation), observation)

    @abstractmethod
    def fresh(self, count: int) -> Rows:
        """What is remembered of flows that begin."""

    @abstractmethod
    def decide(
        self, rows: Rows, seen: Interval, observation: Observation
    ) -> Float[ndarray, "batch 2"]:
        """The rates and windows; `rows` are changed."""


def newest(observation: Observation) -> Interval:
    """What the last monitoring interval brought."""
    length_ms = observation["interval_ms"].astype(float)
    min_rtt_ms = observation["min_rtt_ms"].astype(float)
    rtt_ms, loss = observation["rtt_ms"][:, -1], observation["loss"][:, -1].astype(float)
    acked = observation["throughput_mbps"][:, -1] * length_ms * _PACKETS_PER_MBPS_MS
    lost = np.where(loss < 1, acked * loss / np.maximum(1 - loss, 1e-9), 1.0)
    rtt_s = np.where(rtt_ms > 0, rtt_ms, min_rtt_ms) * 1e-3
    return Interval(acked, lost, rtt_s, min_rtt_ms * 1e-3, length_ms * 1e-3)


def mbps(
    packets: Float[ndarray, "batch"], seconds: Float[ndarray, "batch"]
) -> Float[ndarray, "batch"]:
    """The rate of so many packets in a time, in Mbit/s; at least a hundredth."""
    return np.maximum(packets / seconds * (_PACKETS_PER_MBPS_MS**-1 * 1e-3), 0.01)


def new_round(
    rows: Rows, seen: Interval, length_s: Float[ndarray, "batch"]
) -> Bool[ndarray, "batch"]:
    """Which flows begin a new round of so many seconds; `rows["round_s"]` is its time so far."""
    rows["round_s"] += seen.length_s
    over = rows["round_s"] >= length_s * (1 - 1e-9)
    rows["round_s"][over] = 0.0
    return over
