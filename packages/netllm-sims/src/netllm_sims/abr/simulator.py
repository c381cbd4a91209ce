"""The batched simulator: many sessions, one chunk per step."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from numpy.typing import DTypeLike

from netllm_sims.abr.link import curves
from netllm_sims.abr.live import NEAR_S
from netllm_sims.abr.qoe import quality_thousandths
from netllm_sims.abr.sessions import Session
from netllm_sims.abr.simulator_arrays import Knobs, Ladder, Link, Live, State, View
from netllm_sims.abr.traces import Trace
from netllm_sims.abr.video import Video

if TYPE_CHECKING:
    from netllm_sims.abr.settings import Setting

HISTORY = 6
"""Past chunks and coming chunks that an observation shows."""

LIVE_FIELDS = ("live_latency_s", "speed")
"""Fields of an observation, and parts of the QoE, that live sessions have beside the others."""

Observation = dict[str, ndarray]
_Curves = tuple[Float[ndarray, "row 4"], Int[ndarray, "trace"], Int[ndarray, "trace"]]


class Simulator:
    """Plays a video over every session at once; all sessions are at the same chunk.

    The video is the setting's but for sessions that have their own (`Session.video`).

    `reset` downloads the first chunk at level 0; then each `step` downloads one chunk per session,
    `chunks - 1` times. A download takes the link's time plus one round trip (times the delay
    noise); the trace advances by the link's time only, as in the reference. Latency passes before
    each chosen request: it drains the buffer and advances the trace. A buffer above the cap drains
    in steps while the trace goes on.

    Live (`live_target_s` of the setting) a chunk can be asked for once it has been produced: the
    session joins at the target, with the chunks of that time ready, and the live edge moves with
    the clock. A control of the speed of playback keeps the latency near the target; `skip_s` later
    than that, playback jumps to the target, past what is in the buffer. There the trace goes on
    during round trips as well.

    The observation is a dict of arrays with a leading batch axis; they are read-only, and **the
    next step reuses them: copy what you keep or change.**

    | field | shape | meaning |
    |---|---|---|
    | `throughput_mbps` | (6,) | measured Mbit/s of the last chunks, with round trip, newest last |
    | `delay_s` | (6,) | download time of the same chunks |
    | `sizes_mb` | (6, levels) | MB (1e6 bytes) of the next chunks, row 0 the one to choose |
    | `rate_kbps` | () | label rate of the last chunk |
    | `level` | () | its index, int64 |
    | `buffer_s` | () | playback time in the buffer |
    | `stall_s` | () | time without playback that the last chunk caused |
    | `chunks_left` | () | chunks still to be decided, this one included |
    | `reward` | () | QoE of the last chunk, in Mbit/s unless `quality` says otherwise |
    | `live_latency_s` | () | live only: how far playback is behind the live edge |
    | `speed` | () | live only: mean speed of playback since the chunk before |

    Args:
        setting: Video, QoE and link parameters.
        sessions: The episodes to play; their ids seed the delay noise, so a session does not depend
            on its batch.
        dtype: float32 or float64, of observations and rewards; the state itself is float64.

    Raises:
        ValueError: No sessions, or another dtype.

    Before the start, history is 0; beyond the size table, sizes are 0 (the published tables hold
    one row more than is played).

    Source: `env.py` of NetLLM's adaptive_bitrate_streaming, which follows Pensieve's; a search on
    the cumulative-capacity curve replaces its loop over segments.
    """

    def __init__(
        self, setting: "Setting", sessions: Sequence[Session], *, dtype: DTypeLike = np.float32
    ) -> None:
        if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise ValueError(f"`dtype` must be float32 or float64, got {np.dtype(dtype)}.")
        self.setting = setting
        self.sessions = list(sessions)
        video, batch = setting.video, len(sessions)
        self._knobs = Knobs(*(float(getattr(setting, name)) for name in Knobs._fields))
        self._dtype = np.dtype(dtype)
        self._ladder = self._ladder_of([video], np.zeros(batch, np.int64))
        self._shared = True
        self._traces: dict[int, Trace] = {}
        self._state = State(
            np.zeros(batch, np.int64), np.zeros((batch, 3)), np.zeros(batch, np.int64)
        )
        self._view = View(
            np.zeros((batch, HISTORY), dtype),
            np.zeros((batch, HISTORY), dtype),
            np.zeros((batch, HISTORY * video.levels), dtype),
            np.zeros((6, batch), dtype),
        )
        self._live = self._live_of(batch) if setting.live else None
        self._choice = np.zeros(batch, np.int64)
        self._noise = np.zeros((0, 0))
        self._chunk = video.chunks
        self._observation = self._named_views()
        self.assign(sessions)

    def assign(self, sessions: Sequence[Session]) -> None:
        """Take other sessions, as many as before; they begin with the next `reset`.

        Curves are built anew unless `learn` has been given all their traces.

        Raises:
            ValueError: The number of sessions differs, or is zero; or a session's own video has
                another ladder or number of chunks than the setting's.
        """
        if len(sessions) != len(self._choice) or not sessions:
            raise ValueError(
                f"`sessions` must hold {len(self._choice) or 'at least 1'} sessions, "
                f"got {len(sessions)}."
            )
        self._show(sessions)
        self.sessions = list(sessions)
        traces = {id(session.trace): session.trace for session in sessions}
        learnt = traces.keys() <= self._traces.keys()
        table, places = self._learnt if learnt else self._curves_of(traces)
        curve, first, last = table
        of = [places[id(session.trace)] for session in sessions]
        self._link = Link(
            curve,
            first[of],
            last[of],
            np.array([1.0 / session.scale for session in sessions]),
            np.array([session.start_s for session in sessions]),
        )
        self._chunk = self.setting.video.chunks

    def _show(self, sessions: Sequence[Session]) -> None:
        """Take each session's own video, where it has one, instead of the setting's."""
        shared = all(session.video is None for session in sessions)
        if shared and self._shared:
            return
        of = [session.video or self.setting.video for session in sessions]
        videos = {id(video): video for video in of}
        for session, video in zip(sessions, of, strict=True):
            _check_video(session.id, video, self.setting.video)
        number = {key: place for place, key in enumerate(videos)}
        which = np.array([number[id(video)] for video in of])
        self._ladder, self._shared = self._ladder_of([*videos.values()], which), shared

    def learn(self, traces: Sequence[Trace]) -> None:
        """Build the curves of these traces now and keep them, so that `assign` need not."""
        self._traces |= {id(trace): trace for trace in traces}
        self._learnt = self._curves_of(self._traces)

    def reset(self, seed: int = 0) -> Observation:
        """Start all sessions and download their first chunk at level 0; what the players then see.

        Args:
            seed: Of the delay noise; without noise nothing is random.
        """
        from netllm_sims.abr.compiled_simulator import begin

        for field in self._view:
            field[:] = 0
        begin(self._link, self._state)
        if self._live is not None:
            self._live.latency_s[:] = self._live.target_s
        self._noise = self._draw_noise(seed)
        self._chunk = 0
        self._choice[:] = 0
        self._play(self._knobs._replace(latency_s=0.0))
        return self.observation

    def step(
        self, level: Int[ndarray, "batch"]
    ) -> tuple[Observation, Float[ndarray, "batch"], Bool[ndarray, "batch"]]:
        """Download the next chunk of every session at its level.

        Returns:
            The observation (reused arrays), the chunk's QoE, and whether the session is
            over (all at once).

        Raises:
            ValueError: A level is no integer of the ladder, or not one per session.
            RuntimeError: The sessions are over or not begun.
        """
        chunks = self.setting.video.chunks
        if self._chunk >= chunks:
            raise RuntimeError(
                "`step` must follow `reset`, but the sessions are over or not begun. Call `reset`."
            )
        level = np.asarray(level)
        if level.shape != self._choice.shape or level.dtype.kind not in "iu":
            raise ValueError(
                f"`level` must hold one integer per session, shape {self._choice.shape}, "
                f"got {level.dtype} of shape {level.shape}."
            )
        self._choice[:] = level
        self._play(self._knobs)
        done = np.full(len(level), self._chunk >= chunks)
        return self.observation, self._observation["reward"].copy(), done

    @property
    def observation(self) -> Observation:
        """What the players see now; the arrays that `reset` and `step` return, in a new dict."""
        return dict(self._observation)

    @property
    def parts(self) -> Observation:
        """Of the last chunk, copied: `bitrate_mbps`, `rebuffer_s`, `smoothness_mbps` (change).

        Live also `live_latency_s` and `speed`.
        """
        scalars = self._view.scalars
        live = {name: self._observation[name].copy() for name in LIVE_FIELDS if self._live}
        return {
            "bitrate_mbps": scalars[0] * 1e-3,
            "rebuffer_s": scalars[2].copy(),
            "smoothness_mbps": scalars[5].copy(),
            **live,
        }

    @property
    def time_s(self) -> Float[ndarray, "batch"]:
        """Time within the period of its trace at which each session stands (copy)."""
        return self._state.place[:, 0].copy()

    @property
    def chunk(self) -> int:
        """Number of chunks downloaded so far, which is also the index of the one to choose now."""
        return self._chunk

    def _ladder_of(self, videos: Sequence[Video], which: Int[ndarray, "batch"]) -> Ladder:
        """The chunks of the videos under one another, and where each session's begin."""
        ends = np.cumsum([len(video.sizes_bytes) + HISTORY for video in videos])
        sizes = np.zeros((ends[-1], videos[0].levels))
        quality = np.zeros_like(sizes)
        for end, video in zip(ends, videos, strict=True):
            rows = slice(end - HISTORY - len(video.sizes_bytes), end - HISTORY)
            sizes[rows] = video.sizes_bytes
            quality[rows] = quality_thousandths(self.setting.quality, video)
        firsts = np.concatenate([[0], ends[:-1]])
        table = (sizes * 1e-6).astype(self._dtype).reshape(-1)
        rates = np.array(videos[0].rates_kbps)
        return Ladder(sizes, rates, quality, table, firsts[which])

    def _curves_of(self, traces: dict[int, Trace]) -> tuple[_Curves, dict[int, int]]:
        table = curves(list(traces.values()), packet_share=self.setting.packet_share)
        return table, {key: place for place, key in enumerate(traces)}

    def _named_views(self) -> Observation:
        view, batch = self._view, len(self._choice)
        rate, buffer, stall, left, reward, _ = view.scalars
        views = {
            "throughput_mbps": view.throughput_mbps.view(),
            "delay_s": view.delay_s.view(),
            "sizes_mb": view.sizes_mb.reshape(batch, HISTORY, self.setting.video.levels),
            "rate_kbps": rate,
            "level": self._state.level.view(),
            "buffer_s": buffer,
            "stall_s": stall,
            "chunks_left": left,
            "reward": reward,
        }
        if self._live is not None:
            views |= dict(zip(LIVE_FIELDS, self._live.seen, strict=True))
        for array in views.values():
            array.setflags(write=False)
        return views

    def _live_of(self, batch: int) -> Live:
        qoe = self.setting.qoe
        return Live(
            self.setting.live_target_s, self.setting.catch_up, self.setting.skip_s,
            NEAR_S, qoe.near, qoe.late, qoe.speed,
            np.zeros(batch), np.zeros((2, batch), self._dtype),
        )  # fmt: skip

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

    def _play(self, knobs: Knobs) -> None:
        from netllm_sims.abr.compiled_simulator import play

        video = self.setting.video
        left = video.chunks - 1 - self._chunk
        wrong = play(
            self._chunk, left, self._choice, self._noise,
            self._link, self._ladder, knobs, self._state, self._view, self._live,
        )  # fmt: skip
        if wrong >= 0:
            raise ValueError(
                f"`level` must lie between 0 and {video.levels - 1}, got {self._choice[wrong]} "
                f"for session `{self.sessions[wrong].id}`."
            )
        self._chunk += 1


def _check_video(session: str, own: Video, usual: Video) -> None:
    facts = [(video.rates_kbps, video.chunk_s, video.chunks) for video in (own, usual)]
    if facts[0] != facts[1]:
        raise ValueError(
            f"The video of session `{session}` must have the ladder and chunks of the setting's "
            f"{facts[1]} (kbit/s, s, number), got {facts[0]}."
        )
