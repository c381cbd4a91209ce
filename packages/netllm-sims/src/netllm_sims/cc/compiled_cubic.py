"""CUBIC, compiled: competing flows of the simulator, and the rival of `netllm_baselines`."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_sims.cc.links import PACKET_BYTES
from netllm_sims.compilation import compiled

WINDOW, THRESHOLD, MOST, PRIOR, FRIENDLY, SINCE_S, K_S, RECOVERY_S = range(8)
COLUMNS = 8
"""Packets: window, slow-start threshold, window before the last reduction (with fast convergence),
the same without, Reno-friendly window. Seconds: since the epoch began, until the cubic reaches
`MOST`, left of a recovery."""
BETA = 0.7
"""Factor on the window where something is lost."""
C = 0.4
"""Packets per cubed second."""
INITIAL_WINDOW = 10.0
"""Packets with which a flow begins (RFC 6928)."""
_FRIENDLY_RISE = 3 * (1 - BETA) / (1 + BETA)


def fresh(*shape: int) -> Float[ndarray, "*shape column"]:
    """The state of flows that begin."""
    state = np.zeros((*shape, COLUMNS))
    state[..., WINDOW] = INITIAL_WINDOW
    state[..., THRESHOLD] = np.inf
    return state


@compiled
def cubic(
    flow: Float[ndarray, "column"], acked: float, lost: float, rtt_s: float, interval_s: float
) -> tuple[float, float]:
    """Take in what a monitoring interval brought: pacing rate in bytes/s, window in bytes.

    Args:
        flow: The state of one flow, which is changed.
        acked: Packets acknowledged in the interval.
        lost: Packets whose loss was noticed in it.
        rtt_s: Mean round-trip time in it.
        interval_s: Its length.

    Source: RFC 9438, sections 4.2 to 4.10, and its names of constants. Differences: what comes
    with each acknowledgement there comes once per interval; no HyStart++, no timeouts; paced at 2
    windows per round trip in slow start, else at 1.2, as Linux does.
    """
    flow[RECOVERY_S] -= interval_s
    window = flow[WINDOW]
    if flow[RECOVERY_S] <= 0.0:
        if lost > 0.0:
            flow[PRIOR] = window
            flow[MOST] = window * (1 + BETA) / 2 if window < flow[MOST] else window
            window = max(window * BETA, 2.0)
            flow[THRESHOLD] = flow[FRIENDLY] = window
            flow[SINCE_S] = 0.0
            flow[K_S] = (max(flow[MOST] - window, 0.0) / C) ** (1 / 3)
            flow[RECOVERY_S] = rtt_s + interval_s  # until all that was sent before is noticed
        elif window < flow[THRESHOLD]:
            window += acked
        elif acked > 0.0:
            window = _avoid_congestion(flow, window, acked, rtt_s, interval_s)
    flow[WINDOW] = window
    gain = 2.0 if window < flow[THRESHOLD] else 1.2
    return gain * window * PACKET_BYTES / rtt_s, window * PACKET_BYTES


@compiled
def _avoid_congestion(
    flow: Float[ndarray, "column"], window: float, acked: float, rtt_s: float, interval_s: float
) -> float:
    """The next window, by the cubic or the Reno-friendly one."""
    flow[SINCE_S] += interval_s
    rise = 1.0 if flow[FRIENDLY] >= flow[PRIOR] else _FRIENDLY_RISE
    flow[FRIENDLY] += rise * acked / window
    if C * (flow[SINCE_S] - flow[K_S]) ** 3 + flow[MOST] < flow[FRIENDLY]:
        return flow[FRIENDLY]
    target = C * (flow[SINCE_S] + rtt_s - flow[K_S]) ** 3 + flow[MOST]
    target = min(max(target, window), 1.5 * window)
    return window + (target - window) / window * acked


@compiled
def cubics(
    flows: Float[ndarray, "batch column"],
    acked: Float[ndarray, "batch"],
    lost: Float[ndarray, "batch"],
    rtt_s: Float[ndarray, "batch"],
    interval_s: Float[ndarray, "batch"],
    controls: Float[ndarray, "batch 2"],
) -> None:
    """`cubic` of several flows; writes rates and windows to `controls`."""
    for b in range(flows.shape[0]):
        controls[b, 0], controls[b, 1] = cubic(flows[b], acked[b], lost[b], rtt_s[b], interval_s[b])
