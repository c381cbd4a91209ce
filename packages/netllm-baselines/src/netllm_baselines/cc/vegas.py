"""TCP Vegas."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_baselines.cc._flows import Flows, Interval, Observation, Rows, mbps, new_round

ALPHA, BETA, GAMMA = 2.0, 4.0, 1.0
"""Packets in the queue: fewest and most in congestion avoidance, and the end of slow start."""


class Vegas(Flows):
    """A window that keeps 2 to 4 packets of its own in the queue.

    Once per round trip it compares what it sends with what it would without a queue, the window
    times (1 - shortest round trip / round trip), and moves by one packet.

    Source: Brakmo and Peterson, IEEE JSAC 1995, section 3, with the numbers of Linux. Differences:
    slow start doubles at the end of every second round trip, not packet by packet; losses of one
    round trip halve the window, as Reno's do.
    """

    def fresh(self, count: int) -> Rows:
        """A window of 10 packets in slow start."""
        return {
            "window": np.full(count, 10.0),
            "slow": np.ones(count, bool),
            "odd": np.zeros(count, bool),
            "round_s": np.zeros(count),
            "cut": np.zeros(count, bool),
        }

    def decide(
        self, rows: Rows, seen: Interval, observation: Observation
    ) -> Float[ndarray, "batch 2"]:
        """The window after what came."""
        window, slow = rows["window"], rows["slow"]
        new = new_round(rows, seen, seen.rtt_s)
        queued = window * (1 - seen.min_rtt_s / seen.rtt_s)
        leaves = new & slow & (queued > GAMMA)
        window[leaves] -= queued[leaves]
        slow[leaves] = False
        window[new & slow & rows["odd"]] *= 2
        rows["odd"] ^= new
        steady = new & ~slow & ~leaves
        window[steady & (queued < ALPHA)] += 1
        window[steady & (queued > BETA)] -= 1
        rows["cut"] &= ~new
        cut = (seen.lost > 0) & ~rows["cut"]
        window[cut] /= 2
        rows["cut"] |= cut
        slow[cut] = False
        np.maximum(window, 2.0, out=window)
        return np.stack([1.2 * mbps(window, seen.rtt_s), window], axis=1)
