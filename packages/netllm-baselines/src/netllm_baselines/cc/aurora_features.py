"""What Aurora sees of a flow, whatever the link's speed."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from netllm_sims.cc import HISTORY
from numpy import ndarray

WIDTH = 4 * HISTORY
"""Number of features."""
_MOST_INFLATION = 8.0
_LEAST_RATIO = 0.1


def features(observation: Mapping[str, ndarray]) -> Float[ndarray, "batch feature"]:
    """Of each of the last intervals: latency gradient and ratio, sending ratio, and share lost.

    The gradient is the round trip's change per time; the latency ratio is the round trip over the
    shortest one, less 1, seen through a logarithm; the sending ratio is the logarithm of what was
    sent over what was acknowledged. All are 0 before the start.

    Source: Jay et al., ICML 2019 (Aurora), section 4.1; the share lost is ours.
    """
    latency = np.log1p(np.minimum(observation["inflation"], _MOST_INFLATION))
    ratio = np.where(observation["rtt_ms"] > 0, observation["send_ratio"], 1)
    sending = np.log(np.maximum(ratio, _LEAST_RATIO))
    seen = np.concatenate(
        [observation["rtt_gradient"], latency, sending, observation["loss"]], axis=1
    )
    return seen.astype(np.float32)
