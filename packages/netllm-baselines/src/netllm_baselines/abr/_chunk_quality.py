"""The quality of the chunks that a planner looks at; a video is known beforehand."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_baselines.abr._session_memory import Observation

if TYPE_CHECKING:
    from netllm_sims.abr import Setting


class ChunkQuality:
    """Quality of each session's last and coming chunks, as the setting's QoE takes it.

    Args:
        setting: Names the quality, and the video.
        ahead: Coming chunks.
    """

    def __init__(self, setting: "Setting", ahead: int) -> None:
        played = setting.chunk_quality[: setting.chunks]
        # No plan reaches beyond the last chunk.
        self._table = np.concatenate([played, np.repeat(played[-1:], ahead, axis=0)])
        self._chunks = setting.chunks
        self._rows = np.arange(-1, ahead)

    def __call__(self, observation: Observation) -> Float[ndarray, "batch chunk level"]:
        """Row 0 is the last chunk's, row 1 that of the chunk to choose."""
        next_chunk = self._chunks - observation["chunks_left"].astype(np.int64)
        return self._table[np.maximum(next_chunk[:, None] + self._rows, 0)]
