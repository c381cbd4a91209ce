"""Smoothness-optimised control of the buffer (SODA)."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from netllm_baselines.abr._moving_throughput import MovingThroughput
from netllm_baselines.abr._session_memory import Observation

if TYPE_CHECKING:
    from netllm_sims.abr import Setting


class Soda:
    """First level of the plan that is cheapest in distortion, buffer and change together.

    Time goes by in steps of D, the length of a chunk. With the expected rate w of the link, a step
    at level m brings `w D / rate_m` seconds of video and moves the buffer x by that less D. Over K
    steps it minimises the sum of

        v_m w / rate_m  +  buffering b(x)  +  switching (v_m - v_before)^2

    - v_m is a level's distortion: the quality that it lacks in the mean to the best, 1 to 0;
    - b(x) is `(1 - x / target)^2`, times `above` where the buffer exceeds its target: stalls are
      not weighed, the buffer is kept away from them;
    - plans that run the buffer dry are out; without any other the lowest level is taken.

    Only plans that never fall, or never rise, are searched.

    Args:
        setting: Gives ladder, quality, length of a chunk, capacity of the buffer and round trip.
        target: The buffer that is aimed at, as a share of its capacity.
        buffering: Weight of the buffer's cost (beta).
        switching: Weight of changes (gamma).
        above: Share of the buffer's cost above the target (epsilon).
        horizon: Steps planned ahead (K).

    Raises:
        ValueError: A number outside its range.

    Source: Chen et al., SIGCOMM 2024, equations 1 and 2 and Algorithm 1; the rate is expected as
    dash.js does, as there. Four differences. Distortion is linear in quality and not `1 / rate`, so
    that it is the QoE's; the buffer's cost is relative to the target, which only scales beta; a
    full buffer pauses the player, and so is no limit to plans; and it looks further ahead than 10
    s. The numbers were chosen on validation sessions of `default` with `benchmarks/abr_tuning.py`;
    with them changes weigh little against the buffer, so that one situation in six, drawn uniformly
    as for their figure 8, is decided otherwise than a search over all plans would.
    """

    def __init__(
        self,
        setting: "Setting",
        *,
        target: float = 0.75,
        buffering: float = 3.0,
        switching: float = 1.0,
        above: float = 0.1,
        horizon: int = 5,
    ) -> None:
        if not 0 < target <= 1 or horizon < 1 or min(buffering, switching, above) < 0:
            raise ValueError(
                "`target` must lie in (0, 1], `horizon` be at least 1, and `buffering`, "
                f"`switching` and `above` be >= 0, got {target}, {horizon}, {buffering}, "
                f"{switching} and {above}."
            )
        self.horizon = horizon
        self._rates_mbps = np.array(setting.video.rates_kbps) / 1000
        quality = setting.chunk_quality[: setting.chunks].mean(axis=0)
        self._distortion = (quality.max() - quality) / max(np.ptp(quality), 1e-9)
        cap_s = setting.buffer_cap_s
        self._terms = np.array(
            [setting.video.chunk_s, cap_s, target * cap_s, buffering, switching, above]
        )
        self._expected_mbps = MovingThroughput(setting.rtt_s)

    def reset(self, seed: int) -> None:
        """Forget all sessions."""
        self._expected_mbps.clear()

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session."""
        from netllm_baselines.abr._level_search import steer

        return steer(
            self._expected_mbps(observation),
            observation["buffer_s"].astype(np.float64),
            observation["level"].astype(np.int64),
            self.horizon,
            self._rates_mbps,
            self._distortion,
            self._terms,
        )
