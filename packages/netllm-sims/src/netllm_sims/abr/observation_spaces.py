"""The spaces of streaming's observations."""

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces
from numpy import ndarray

from netllm_sims.abr.settings import Setting
from netllm_sims.abr.simulator import HISTORY, LIVE_FIELDS, Observation

_ANY = float(np.finfo(np.float32).max)  # gymnasium's checker warns of infinite bounds


def observation_space(setting: Setting) -> spaces.Dict:
    """Space of one session's observation, in float32."""
    levels = setting.video.levels
    top = setting.rates_kbps[-1]

    def box(high: float, *shape: int, low: float = 0.0) -> spaces.Box:
        return spaces.Box(np.float32(low), np.float32(high), shape, np.float32)

    live = {name: box(_ANY, 1) for name in LIVE_FIELDS if setting.live}
    return spaces.Dict(
        {
            "throughput_mbps": box(_ANY, HISTORY),
            "delay_s": box(_ANY, HISTORY),
            "sizes_mb": box(_ANY, HISTORY, levels),
            "rate_kbps": box(top, 1),
            "level": spaces.Discrete(levels),
            "buffer_s": box(_ANY if setting.live else setting.buffer_cap_s, 1),
            "stall_s": box(_ANY, 1),
            "chunks_left": box(setting.chunks - 1, 1),
            "reward": box(float(setting.chunk_quality.max()), 1, low=-_ANY),
            **live,
        }
    )


def columns(observation: Mapping[str, ndarray]) -> Observation:
    """The simulator's observation with one number per session as a column, (batch, 1); no copies.

    `level` stays (batch,), as spaces of gymnasium have it.
    """
    return {
        name: value[:, None] if value.ndim == 1 and name != "level" else value
        for name, value in observation.items()
    }
