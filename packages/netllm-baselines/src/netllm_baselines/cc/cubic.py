"""CUBIC, the usual congestion control of the Internet."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_baselines.cc._flows import Flows, Interval, Observation, Rows


class CUBIC(Flows):
    """A window that grows as a cubic of the time since the last loss, which cuts it by 0.7.

    Source: RFC 9438; the same compiled rule sends the competing flows of `netllm_sims.cc`, where
    its differences are told (`compiled_cubic.cubic`).
    """

    def fresh(self, count: int) -> Rows:
        """The state of `compiled_cubic`."""
        from netllm_sims.cc.compiled_cubic import fresh

        return {"flow": fresh(count)}

    def decide(
        self, rows: Rows, seen: Interval, observation: Observation
    ) -> Float[ndarray, "batch 2"]:
        """What the cubic says."""
        from netllm_sims.cc.compiled_cubic import cubics
        from netllm_sims.cc.links import PACKET_BYTES

        controls = np.empty((len(seen.acked), 2))
        cubics(rows["flow"], seen.acked, seen.lost, seen.rtt_s, seen.length_s, controls)
        return controls * (8e-6, 1 / PACKET_BYTES)
