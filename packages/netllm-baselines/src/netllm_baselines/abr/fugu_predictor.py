"""How long coming downloads may take: what Fugu's predictor sees and answers, as plain arrays."""

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy import ndarray

from netllm_baselines.abr._session_memory import Observation
from netllm_baselines.abr.ppo_features import HISTORY, SHORTEST_S, SLOWEST_MBPS, SMALLEST_MB

AHEAD = 5
"""Coming chunks whose downloads are predicted."""
WIDTH = 2 * HISTORY + 2 + AHEAD
"""Numbers that the predictor sees of one download."""
_BORDERS_S = np.geomspace(0.1, 60.0, 40)
BINS = len(_BORDERS_S) + 1
"""Intervals of time that it gives chances to."""
_RATIO = _BORDERS_S[1] / _BORDERS_S[0]
TIMES_S = np.append(_BORDERS_S, _BORDERS_S[-1] * _RATIO) / np.sqrt(_RATIO)
"""The middle of each interval in s."""


def bin_of(time_s: Float[ndarray, "*download"]) -> Int[ndarray, "*download"]:
    """The interval that each time lies in."""
    return np.searchsorted(_BORDERS_S, time_s, side="right")


def inputs(
    observation: Observation, sizes_mb: Shaped[ndarray, "batch ahead choice"]
) -> Float[ndarray, "batch ahead choice feature"]:
    """What the predictor sees of each session's possible downloads.

    Logarithms of the last throughputs and download times (missing ones repeat the mean of the
    known throughputs, and a time of 0), how many are known, the logarithm of the size, and how many
    chunks ahead the download is.

    Args:
        observation: What the sessions see.
        sizes_mb: Sizes that may be downloaded next, after that, and so on.
    """
    throughput = np.asarray(observation["throughput_mbps"], dtype=np.float32)
    known = throughput > 0
    count = np.maximum(known.sum(axis=1, keepdims=True), 1).astype(np.float32)
    rates = np.log(np.maximum(throughput, SLOWEST_MBPS)) * known
    rates = np.where(known, rates, rates.sum(axis=1, keepdims=True) / count)
    delays = np.log(np.maximum(observation["delay_s"], SHORTEST_S), dtype=np.float32) * known
    past = np.concatenate([rates, delays, count / HISTORY], axis=1)
    sizes = np.log(np.maximum(sizes_mb, SMALLEST_MB), dtype=np.float32)
    shape = sizes.shape
    ahead = np.eye(AHEAD, dtype=np.float32)[: shape[1], None]
    return np.concatenate(
        [
            np.broadcast_to(past[:, None, None], (*shape, past.shape[1])),
            sizes[..., None],
            np.broadcast_to(ahead, (*shape, AHEAD)),
        ],
        axis=-1,
    )
