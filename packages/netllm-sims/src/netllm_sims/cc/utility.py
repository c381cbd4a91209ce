"""What a sender's monitoring interval is worth."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

LOSS_WEIGHT = 5.0
"""What a lost byte costs, in delivered ones."""
MARGIN = 1.25
"""Round trips up to so many times the shortest cost nothing."""


def utility(
    throughput: Float[ndarray, "*interval"],
    lost: Float[ndarray, "*interval"],
    rtt: Float[ndarray, "*interval"],
    *,
    capacity: Float[ndarray, "*interval"],
    shortest: Float[ndarray, "*interval"],
) -> Float[ndarray, "*interval"]:
    """Normalised power: `(throughput - 5 lost) / capacity * min(1, 1.25 shortest / rtt)`.

    It is 1 where the link is full, its queue short and nothing lost. The ratio of throughput and
    delay is what Kleinrock calls power; as both are relative, links of all speeds count alike.

    Args:
        throughput: What was acknowledged; any unit of rate.
        lost: What was lost, in the same unit.
        rtt: Mean round-trip time; any unit of time.
        capacity: Mean capacity of the link over the episode, in the unit of the throughput.
        shortest: Round-trip time without a queue, in the unit of `rtt`.

    Source: the reward of Orca (Abbasloo et al., SIGCOMM 2020, section 4), with the weights of its
    public code. There capacity and shortest round trip are the largest and smallest values that the
    sender has seen; here they are the link's own.
    """
    return (throughput - LOSS_WEIGHT * lost) / capacity * np.minimum(1.0, MARGIN * shortest / rtt)
