"""The compiled search of LoL+; imported when it first acts."""

import numpy as np
from jaxtyping import Bool, Float
from netllm_sims.compilation import compiled
from numpy import ndarray


@compiled
def nearest_by_any(
    squares: Float[ndarray, "batch level 4"],
    bears: Bool[ndarray, "batch level"],
    weights: Float[ndarray, "weights 4"],
) -> Bool[ndarray, "batch level"]:
    """Which levels have the least weighted sum of squares by some weights, the lowest of equals.

    Only those that the link `bears` count.
    """
    batch, levels = bears.shape
    winners = np.zeros((batch, levels), np.bool_)
    for b in range(batch):
        for z in range(len(weights)):
            best, nearest = np.inf, 0
            for m in range(levels):
                distance = 0.0
                for i in range(4):
                    distance += weights[z, i] * squares[b, m, i]
                if bears[b, m] and distance < best:
                    best, nearest = distance, m
            winners[b, nearest] = True
    return winners
