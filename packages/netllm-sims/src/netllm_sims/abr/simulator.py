"""The batched simulator: many sessions, one chunk per step."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from numpy.typing import DTypeLike

from netllm_sims.abr.link import curves
from netllm_sims.abr.sessions import Session

if TYPE_CHECKING:
    from netllm_sims.abr.settings import Setting

HISTORY = 6
"""Past chunks and coming chunks that an observation shows."""

Observation = dict[str, ndarray]


class Simulator:
    """Plays the setting's video over every session at once; all sessions are at the same chunk.

    `reset` downloads the first chunk at level 0; then each `step` downloads one chunk per session, `chunks - 1` times.
    A download takes the link's time plus one round trip (times the delay noise); the trace advances by the link's time
    only, as in the reference. Latency passes before each chosen request: it drains the buffer and advances the trace.
    A buffer above the cap drains in steps while the trace goes on.

    The observation is a dict of arrays with a leading batch axis; **the next step reuses them: copy what you keep.**

    | field | shape | meaning |
    |---|---|---|
    | `throughput_mbps` | (6,) | Mbit/s measured over the last chunks (round trip included), newest last, 0 before the start |
    | `delay_s` | (6,) | download time of the same chunks |
    | `sizes_mb` | (6, levels) | sizes in MB (1e6 bytes) of the next chunks, row 0 to be chosen now; 0 beyond the table |
    | `rate_kbps` | () | label rate of the last chunk |
    | `level` | () | its index, int64 |
    | `buffer_s` | () | playback time in the buffer |
    | `stall_s` | () | time without playback that the last chunk caused |
    | `chunks_left` | () | chunks still to be decided, this one included |
    | `reward` | () | QoE of the last chunk in Mbps |

    Args:
        setting: Video, QoE and link parameters.
        sessions: The episodes to play; their ids seed the delay noise, so a session does not depend on its batch.
        dtype: float32 or float64, of observations and rewards; the state itself is float64.

    Raises:
        ValueError: No sessions, or another dtype.

    Source: `plm_special/../env.py` of NetLLM and Pensieve's `fixed_env.py`, whose per-segment loop is replaced by a
    search on the cumulative-capacity curve.
    """

    def __init__(
        self, setting: "Setting", sessions: Sequence[Session], *, dtype: DTypeLike = np.float32
    ) -> None:
        if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise ValueError(f"`dtype` must be float32 or float64, got {np.dtype(dtype)}.")
        self.setting = setting
        self.dtype = np.dtype(dtype)
        video = setting.video
        batch, levels = len(sessions), video.levels
        self._rates_kbps = np.array(video.rates_kbps)
        table = np.zeros((len(video.sizes_bytes) + HISTORY + 1, levels))
        table[: len(video.sizes_bytes)] = video.sizes_bytes * 1e-6
        self._table_mb = table.astype(self.dtype).reshape(-1)
        self._throughput_mbps = np.zeros((batch, HISTORY), self.dtype)
        self._delay_s = np.zeros((batch, HISTORY), self.dtype)
        self._sizes_mb = np.zeros((batch, HISTORY * levels), self.dtype)
        self._scalars = np.zeros((6, batch), self.dtype)
        self._level = np.zeros(batch, np.int64)
        self._row = np.zeros(batch, np.int64)
        self._place = np.zeros((batch, 3))
        self._chunk = video.chunks
        self.assign(sessions)
        rate, buffer, stall, left, reward, _ = self._scalars
        self._observation = {
            "throughput_mbps": self._throughput_mbps,
            "delay_s": self._delay_s,
            "sizes_mb": self._sizes_mb.reshape(batch, HISTORY, levels),
            "rate_kbps": rate,
            "level": self._level,
            "buffer_s": buffer,
            "stall_s": stall,
            "chunks_left": left,
            "reward": reward,
        }

    def assign(self, sessions: Sequence[Session]) -> None:
        """Take other sessions, as many as before; they begin with the next `reset`.

        Raises:
            ValueError: The number of sessions differs, or is zero.
        """
        if len(sessions) != len(self._level) or not sessions:
            raise ValueError(
                f"`sessions` must hold {len(self._level) or 'at least 1'} sessions, got {len(sessions)}."
            )
        self.sessions = list(sessions)
        traces = {id(session.trace): session.trace for session in sessions}
        self._curve, first, last = curves(
            list(traces.values()), packet_share=self.setting.packet_share
        )
        index = {key: i for i, key in enumerate(traces)}
        of = np.array([index[id(session.trace)] for session in sessions])
        self._first, self._last = first[of], last[of]
        self._unscale = np.array([1.0 / session.scale for session in sessions])
        self._start_s = np.array([session.start_s for session in sessions])

    def reset(self, seed: int = 0) -> Observation:
        """Start all sessions, download their first chunk at level 0, and return what the players see.

        Args:
            seed: Of the delay noise; without noise nothing is random.
        """
        self._row[:] = self._first
        for field in (self._throughput_mbps, self._delay_s, self._sizes_mb, self._scalars):
            field[:] = 0
        self._level[:] = 0
        self._place[:] = 0
        self._seek_starts()
        self._noise = self._draw_noise(seed)
        self._chunk = 0
        self._play(np.zeros_like(self._level), latency_s=0.0)
        return self._observation

    def step(
        self, level: Int[ndarray, "batch"]
    ) -> tuple[Observation, Float[ndarray, "batch"], Bool[ndarray, "batch"]]:
        """Download the next chunk of every session at its level.

        Returns:
            The observation (reused arrays), the chunk's QoE in Mbps, and whether the session is over (all at once).

        Raises:
            ValueError: A level is no integer of the ladder, or not one per session.
            RuntimeError: The sessions are over or not begun: call `reset`.
        """
        video = self.setting.video
        if self._chunk >= video.chunks:
            raise RuntimeError(
                "`step` needs running sessions, got finished or new ones. Call `reset`."
            )
        level = np.asarray(level)
        if level.shape != self._level.shape or level.dtype.kind not in "iu":
            raise ValueError(
                f"`level` must hold one integer per session, shape {self._level.shape}, "
                f"got {level.dtype} of shape {level.shape}."
            )
        self._play(level.astype(np.int64, copy=False), latency_s=self.setting.latency_s)
        done = np.full(len(level), self._chunk >= video.chunks)
        return self._observation, self._observation["reward"].copy(), done

    @property
    def observation(self) -> Observation:
        """What the players see now; the arrays that `reset` and `step` return."""
        return self._observation

    @property
    def parts(self) -> Observation:
        """Parts of the last chunk's QoE: `bitrate_mbps`, `rebuffer_s`, `smoothness_mbps` (copies)."""
        return {
            "bitrate_mbps": self._scalars[0] * 1e-3,
            "rebuffer_s": self._scalars[2].copy(),
            "smoothness_mbps": self._scalars[5].copy(),
        }

    @property
    def time_s(self) -> Float[ndarray, "batch"]:
        """Time within the period of its trace at which each session stands (copy)."""
        return self._place[:, 0].copy()

    @property
    def chunk(self) -> int:
        """Number of chunks downloaded so far, which is also the index of the one to choose now."""
        return self._chunk

    def _seek_starts(self) -> None:
        from netllm_sims.abr._core import wait

        for b, start_s in enumerate(self._start_s):
            first, last = self._first[b], self._last[b]
            self._row[b], self._place[b, 0], self._place[b, 1] = wait(
                self._curve, first, last, first, 0.0, start_s
            )

    def _draw_noise(self, seed: int) -> Float[ndarray, "chunk batch"]:
        width = self.setting.delay_noise
        if width == 0:
            return np.zeros((0, 0))
        columns = []
        for session in self.sessions:
            digest = hashlib.sha256(session.id.encode()).digest()
            rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
            columns.append(rng.uniform(1 - width, 1 + width, self.setting.video.chunks))
        return np.array(columns).T.copy()

    def _play(self, level: Int[ndarray, "batch"], *, latency_s: float) -> None:
        from netllm_sims.abr._core import play

        setting, video = self.setting, self.setting.video
        knobs = np.array(
            [
                setting.rebuffering,
                setting.smoothness,
                video.chunk_s,
                setting.rtt_s,
                latency_s,
                setting.buffer_cap_s,
                setting.drain_s,
                video.chunks - 1 - self._chunk,
            ]
        )
        arguments: tuple[Any, ...] = (
            self._chunk,
            level,
            self._curve,
            self._first,
            self._last,
            self._unscale,
            video.sizes_bytes,
            self._rates_kbps,
            self._table_mb,
            self._noise,
            knobs,
            self._row,
            self._place,
            self._level,
            self._throughput_mbps,
            self._delay_s,
            self._sizes_mb,
            self._scalars,
        )
        wrong = play(*arguments)
        if wrong >= 0:
            raise ValueError(
                f"`level` must lie between 0 and {video.levels - 1}, got {level[wrong]} for session "
                f"`{self.sessions[wrong].id}`."
            )
        self._chunk += 1
