"""Buffer-based adaptation."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from netllm_baselines.abr._session_memory import Observation

if TYPE_CHECKING:
    from netllm_sims.abr import Setting


class BBA:
    """Level as a linear function of the buffer, from the reservoir to the end of the cushion.

    Args:
        setting: Names the ladder.
        reservoir_s: Buffer in s below which the lowest level is taken.
        cushion_s: Buffer in s over which the level climbs to the highest.

    Source: Huang et al., SIGCOMM 2014 (BBA-0); reservoir and cushion of Pensieve and NetLLM.
    """

    def __init__(
        self, setting: "Setting", *, reservoir_s: float = 5.0, cushion_s: float = 10.0
    ) -> None:
        if reservoir_s < 0 or cushion_s <= 0:
            raise ValueError(
                "`reservoir_s` must be >= 0 and `cushion_s` > 0, "
                f"got {reservoir_s} and {cushion_s}."
            )
        self.reservoir_s = reservoir_s
        self.cushion_s = cushion_s
        self._top = setting.video.levels - 1

    def reset(self, seed: int) -> None:
        """Do nothing: the buffer says it all."""

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        share = self._top * (observation["buffer_s"] - self.reservoir_s) / self.cushion_s
        return np.clip(share, 0, self._top).astype(np.int64)
