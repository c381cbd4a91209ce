"""Copa."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_baselines.cc._flows import Flows, Interval, Observation, Rows, mbps, new_round

DELTA = 0.5
"""Weight of delay in the default mode."""
_KEPT_ROUNDS = 5
_NEARLY_EMPTY = 0.1


class Copa(Flows):
    """A rate that aims at 1 / (delta · queueing delay) packets per second.

    Below the target the window grows by velocity / delta packets per round trip, above it shrinks.
    The velocity doubles once per round trip from the third in the same direction on. Where the
    queue was never nearly empty for five round trips, others keep it full: then 1 / delta adds one
    in a round trip without loss, and is halved in one with.

    Source: Arun and Balakrishnan, NSDI 2018, section 2. Differences: what comes with each
    acknowledgement there comes once per monitoring interval, whose mean is the standing round trip;
    the shortest round trip is that of the whole flow, not of 10 s.
    """

    def fresh(self, count: int) -> Rows:
        """A window of 10 packets in slow start."""
        zeros = ("round_s", "direction", "same", "since_empty_s", "opened", "lost")
        return {
            **{name: np.zeros(count) for name in zeros},
            "window": np.full(count, 10.0),
            "velocity": np.ones(count),
            "slow": np.ones(count, bool),
            "per_delta": np.full(count, 1 / DELTA),
            "longest_s": np.zeros((count, 4)),
        }

    def decide(
        self, rows: Rows, seen: Interval, observation: Observation
    ) -> Float[ndarray, "batch 2"]:
        """The window after what came."""
        window = rows["window"]
        waits_s = np.maximum(seen.rtt_s - seen.min_rtt_s, 1e-9)
        new = new_round(rows, seen, seen.rtt_s)
        self._choose_mode(rows, seen, waits_s, new)
        up = window / seen.rtt_s <= rows["per_delta"] / waits_s
        rows["slow"] &= up
        self._set_velocity(rows, up, new)
        step = np.where(up, 1, -1) * rows["velocity"] * rows["per_delta"] * seen.acked / window
        window += np.where(rows["slow"], seen.acked, step)
        np.maximum(window, 2.0, out=window)
        return np.stack([2 * mbps(window, seen.rtt_s), window], axis=1)

    def _choose_mode(
        self,
        rows: Rows,
        seen: Interval,
        waits_s: Float[ndarray, "batch"],
        new: ndarray,
    ) -> None:
        """Set 1 / delta: as told, or by AIMD where others fill the queue."""
        longest_s = rows["longest_s"]
        longest_s[new, 1:], longest_s[new, 0] = longest_s[new, :-1].copy(), 0.0
        np.maximum(longest_s[:, 0], seen.rtt_s, out=longest_s[:, 0])
        swing_s = longest_s.max(axis=1) - seen.min_rtt_s
        rows["since_empty_s"] += seen.length_s
        rows["since_empty_s"][waits_s <= np.maximum(_NEARLY_EMPTY * swing_s, 1e-6)] = 0.0
        competes = rows["since_empty_s"] > _KEPT_ROUNDS * seen.rtt_s
        rows["lost"] += seen.lost
        then = np.where(rows["lost"] > 0, rows["per_delta"] / 2, rows["per_delta"] + 1)
        rows["per_delta"][new] = np.maximum(then, 1 / DELTA)[new]
        rows["per_delta"][~competes] = 1 / DELTA
        rows["lost"][new] = 0.0

    def _set_velocity(self, rows: Rows, up: ndarray, new: ndarray) -> None:
        """Double the velocity of windows that keep their direction, once per round trip."""
        direction = np.where(rows["window"] >= rows["opened"], 1.0, -1.0)
        same = direction == rows["direction"]
        rows["same"][new] = np.where(same, rows["same"] + 1, 0)[new]
        rows["velocity"][new & (rows["same"] >= 3)] *= 2
        rows["velocity"][(new & ~same) | (up != (rows["direction"] > 0))] = 1.0
        rows["direction"][new] = direction[new]
        rows["opened"][new] = rows["window"][new]
