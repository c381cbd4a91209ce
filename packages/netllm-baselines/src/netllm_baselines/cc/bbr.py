"""BBR, the first version."""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from netllm_baselines.cc._flows import Flows, Interval, Observation, Rows, mbps, new_round

STARTUP, DRAIN, PROBE_BW, PROBE_RTT = range(4)
HIGH_GAIN = 2 / np.log(2)
CYCLE = np.array([1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
"""Pacing gains of the phases of PROBE_BW, each as long as the shortest round trip."""
_FIRST_PHASE = 2
_KEPT_ROUNDS = 10
_KEPT_S = 10.0
_PROBE_RTT_S = 0.2
_LEAST_WINDOW = 4.0


class BBR(Flows):
    """Paced at the highest delivery rate of ten round trips, with at most two BDP in flight.

    Source: Cardwell et al., ACM Queue 14(5), 2016, and draft-cardwell-iccrg-bbr-congestion-control,
    version 00. Differences: rates are measured once per monitoring interval; PROBE_BW begins at its
    third phase, not at a random one, so that a flow does not depend on its batch.
    """

    def fresh(self, count: int) -> Rows:
        """A flow in STARTUP."""
        zeros = ("mode", "full", "stalled", "phase_s", "round_s", "age_s", "min_s", "probed_s")
        return {
            **{name: np.zeros(count) for name in zeros},
            "phase": np.full(count, _FIRST_PHASE),
            "filled": np.zeros(count, bool),
            "delivered": np.zeros((count, _KEPT_ROUNDS)),
        }

    def decide(
        self, rows: Rows, seen: Interval, observation: Observation
    ) -> Float[ndarray, "batch 2"]:
        """Rate and window of the state that the flow is in."""
        flying = observation["inflight_packets"]
        new = new_round(rows, seen, seen.rtt_s)
        delivered = rows["delivered"]
        delivered[new, 1:], delivered[new, 0] = delivered[new, :-1].copy(), 0.0
        np.maximum(delivered[:, 0], seen.acked / seen.length_s, out=delivered[:, 0])
        bottleneck = delivered.max(axis=1)
        expired = self._measure_shortest(rows, seen)
        bottleneck = np.where(bottleneck > 0, bottleneck, 10.0 / rows["min_s"])
        bdp = bottleneck * rows["min_s"]
        self._check_full_pipe(rows, bottleneck, new)
        rows["mode"][(rows["mode"] == DRAIN) & (flying <= bdp)] = PROBE_BW
        self._turn_cycle(rows, seen, flying, bdp)
        self._probe_shortest(rows, seen, expired)
        return self._controls(rows, bottleneck, bdp)

    def _measure_shortest(self, rows: Rows, seen: Interval) -> Bool[ndarray, "batch"]:
        """Take a shorter round trip, or any once the last one is old; which were too old."""
        rows["age_s"] += seen.length_s
        expired = rows["age_s"] > _KEPT_S
        first = rows["min_s"] == 0
        newer = first | (seen.rtt_s <= rows["min_s"]) | expired
        rows["min_s"][newer] = seen.rtt_s[newer]
        rows["age_s"][newer] = 0.0
        return expired

    def _check_full_pipe(self, rows: Rows, bottleneck: ndarray, new: ndarray) -> None:
        """Leave STARTUP after three round trips in which the rate grew by less than a quarter."""
        starting = new & (rows["mode"] == STARTUP)
        grows = starting & (bottleneck >= 1.25 * rows["full"])
        rows["full"][grows] = bottleneck[grows]
        rows["stalled"][starting & ~grows] += 1
        rows["stalled"][grows] = 0
        done = starting & (rows["stalled"] >= 3)
        rows["mode"][done] = DRAIN
        rows["filled"] |= done

    def _turn_cycle(self, rows: Rows, seen: Interval, flying: ndarray, bdp: ndarray) -> None:
        """Go on to the next phase of PROBE_BW where this one has done its work."""
        probing = rows["mode"] == PROBE_BW
        rows["phase_s"] += np.where(probing, seen.length_s, 0.0)
        gain = CYCLE[rows["phase"]]
        over = rows["phase_s"] >= rows["min_s"] * (1 - 1e-9)
        over &= (gain <= 1) | (flying >= gain * bdp) | (seen.lost > 0)
        over |= (gain < 1) & (flying <= bdp)
        over &= probing
        rows["phase"][over] = (rows["phase"][over] + 1) % len(CYCLE)
        rows["phase_s"][over] = 0.0

    def _probe_shortest(self, rows: Rows, seen: Interval, expired: ndarray) -> None:
        """Send almost nothing for a while where the shortest round trip was too old."""
        rows["probed_s"] += seen.length_s
        rows["probed_s"][expired] = 0.0
        rows["mode"][expired] = PROBE_RTT
        long_s = np.maximum(_PROBE_RTT_S, seen.rtt_s)
        ends = (rows["mode"] == PROBE_RTT) & (rows["probed_s"] >= long_s)
        rows["mode"][ends] = np.where(rows["filled"], PROBE_BW, STARTUP)[ends]
        rows["age_s"][ends] = 0.0
        rows["phase"][ends], rows["phase_s"][ends] = _FIRST_PHASE, 0.0

    def _controls(self, rows: Rows, bottleneck: ndarray, bdp: ndarray) -> Float[ndarray, "batch 2"]:
        """Pacing rate and window by state."""
        mode = rows["mode"].astype(int)
        pacing = np.array([HIGH_GAIN, 1 / HIGH_GAIN, 1.0, 1.0])[mode]
        pacing = np.where(mode == PROBE_BW, CYCLE[rows["phase"]], pacing)
        window = np.array([HIGH_GAIN, HIGH_GAIN, 2.0, 0.0])[mode] * bdp
        rate = mbps(pacing * bottleneck, np.ones_like(bdp))
        return np.stack([rate, np.maximum(window, _LEAST_WINDOW)], axis=1)
