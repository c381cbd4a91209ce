"""The best that could have been done."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines.abr._session_memory import Observation

if TYPE_CHECKING:
    from netllm_sims.abr import Setting, Simulator


class Hindsight:
    """Levels of the best session that the whole trace, known beforehand, allows.

    Dynamic programming over all states that some sequence of levels reaches, without those that
    another state beats (see `_hindsight`). Where the buffer never fills, the result is exact; at a
    full buffer the discarding of beaten states is not proven, and the bound may be a little low
    (fcc-test: 1.2229, at most 0.0014 below the optimum, which follows from the exact optimum
    without a cap). Asked for a session that left its plan (as a labelling policy is), it plans anew
    from where the session stands.

    Args:
        setting: Gives video, QoE weights and link.
        width: States kept per chunk, those of highest value; about 100,000 arise on hard traces,
            and 3,000 lose about 0.001 in QoE at a quarter of the time.
        horizon: Chunks looked ahead, anew at every chunk; None looks to the end. With it this is an
            expert to learn from and no bound, since what comes later is not seen.

    Raises:
        ValueError: `width` or `horizon` is below 1, the setting is live, or it has delay noise,
            which is not known beforehand.
    """

    knows = "the future"

    def __init__(
        self, setting: "Setting", *, width: int = 200_000, horizon: int | None = None
    ) -> None:
        if width < 1 or (horizon is not None and horizon < 1):
            raise ValueError(f"`width` and `horizon` must be >= 1, got {width} and {horizon}.")
        if setting.delay_noise > 0:
            raise ValueError(
                f"`delay_noise` must be 0 for `hindsight`, got {setting.delay_noise}: what is "
                "drawn later cannot be known."
            )
        if setting.live:
            raise ValueError(
                f"`hindsight` plans video on demand, but {setting.name!r} is live, where chunks "
                "are not there beforehand and no bound is known. Leave it out."
            )
        self.width, self.horizon = width, horizon
        video = setting.video
        quality = setting.chunk_quality[: video.chunks]
        before = np.concatenate([quality[:1], quality[:-1]])[:, :, None]
        self._gains = quality[:, None] - setting.smoothness * np.abs(quality[:, None] - before)
        self._unit = _unit(self._gains)
        self._terms = np.array(
            [
                video.chunk_s,
                setting.rtt_s,
                setting.latency_s,
                setting.buffer_cap_s,
                setting.drain_s,
                setting.rebuffering,
            ]
        )
        self._video = video
        self._packet_share = setting.packet_share
        self._simulator: Simulator | None = None

    def reset(self, seed: int) -> None:
        """Forget the sessions."""
        self._simulator = None

    def begin(self, simulator: "Simulator") -> None:
        """Plan every session of the simulator, to its end unless there is a horizon."""
        self._simulator = simulator
        self._plans = np.zeros((len(simulator.sessions), self._video.chunks), np.int64)
        for b in range(len(self._plans)):
            self._plan(b, simulator)

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session.

        Raises:
            RuntimeError: `begin` was not called with the simulator, so that nothing is known.
        """
        simulator = self._simulator
        if simulator is None:
            raise RuntimeError(
                "`hindsight` must know the sessions before it acts. Call `begin(simulator)`, "
                "or use `rollout`."
            )
        chunk = simulator.chunk
        left = self._plans[:, chunk - 1] != observation["level"]
        for b in np.flatnonzero(left | (self.horizon is not None)):
            self._plan(int(b), simulator)
        return self._plans[:, chunk].copy()

    def _plan(self, b: int, simulator: "Simulator") -> None:
        from netllm_sims.abr import curve

        from netllm_baselines.abr._hindsight_search import search

        session, chunk = simulator.sessions[b], simulator.chunk
        level = int(simulator.observation["level"][b])
        video = session.video or self._video
        end = video.chunks if self.horizon is None else min(chunk + self.horizon, video.chunks)
        self._plans[b, chunk - 1] = level
        self._plans[b, chunk:end] = search(
            curve(session.trace, packet_share=self._packet_share),
            float(simulator.time_s[b]),
            float(simulator.observation["buffer_s"][b]),
            level,
            video.sizes_bytes[chunk:end] / session.scale,
            self._gains[chunk:end],
            self._terms,
            self._unit,
            self.width,
        )


def _unit(gains: Float[ndarray, "chunk level level"]) -> float:
    """Largest whole number of thousandths that all gains are multiples of; else a fine grid's."""
    thousandths = np.unique(1000 * gains)
    fine = max(1.0, thousandths.max() / 2000)
    whole = np.rint(thousandths).astype(np.int64)
    if np.abs(thousandths - whole).max() > 1e-6:
        return fine / 1000
    return max(fine, float(np.gcd.reduce(np.abs(whole)))) / 1000
