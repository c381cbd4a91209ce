"""Returns-to-go: the rewards an episode is still to bring."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Num


def return_to_go(
    rewards: Num[np.ndarray, "*episode step"] | Bool[np.ndarray, "*episode step"],
    *,
    discount: float = 1.0,
) -> Float[np.ndarray, "*episode step"]:
    """Sum of the rewards from each step to its episode's end, in the reward's unit.

    G_t = r_t + discount · G_{t+1}, along the last axis; other axes are episodes of equal length
    and never mix. Summed in float64 and given in the rewards' own float type; of whole numbers and
    truth values in float64.

    Args:
        rewards: Rewards of one episode, or of several of equal length.
        discount: Weight of the next step's return; 1 for the undiscounted sum.

    Raises:
        ValueError: If `discount` does not lie between 0 and 1.

    Source: Decision Transformer (Chen et al., NeurIPS 2021), section 3, undiscounted. The public
    NetLLM code min-max scales the rewards by the worst one of the pool first; we do not.
    """
    if not 0 <= discount <= 1:
        raise ValueError(f"`discount` must lie between 0 and 1, got {discount!r}.")
    returns = np.asarray(rewards, dtype=np.float64).copy()
    if discount == 1:
        returns = np.cumsum(returns[..., ::-1], axis=-1)[..., ::-1]
    else:
        for step in range(returns.shape[-1] - 2, -1, -1):
            returns[..., step] += discount * returns[..., step + 1]
    own = np.asarray(rewards).dtype
    return np.ascontiguousarray(returns, dtype=own if own.kind == "f" else np.float64)
