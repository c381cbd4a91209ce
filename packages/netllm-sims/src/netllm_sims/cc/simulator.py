"""The batched simulator: many links, one monitoring interval per step."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from numpy import ndarray
from numpy.typing import DTypeLike

from netllm_sims.abr.link import capacity_bytes, curve
from netllm_sims.cc.links import PACKET_BYTES, Link
from netllm_sims.cc.simulator_arrays import (
    ADMITTED,
    ARRIVED,
    CAPACITY,
    ROUND_TRIP,
    SENT,
    SERVED,
    TICKS,
    Links,
    State,
    View,
)

FACTORS = (0.5, 0.7, 0.85, 0.95, 1.0, 1.05, 1.2, 1.5, 2.0)
"""What an answer, an index, does to the sending rate."""
HISTORY = 8
"""Past monitoring intervals that an observation shows."""
SERIES = (
    *("sent_mbps", "throughput_mbps", "rtt_ms", "inflation", "loss"),
    *("rtt_gradient", "send_ratio", "throughput_ratio"),
)
"""Names of the series."""
UNLIMITED = 1e6
"""A rate in Mbit/s, or a window in packets, that binds nobody."""
RATES_MBPS = (0.01, 1000.0)
"""Lowest and highest rate that factors lead to."""
INITIAL_PACKETS = 10.0
"""What is sent in the first round trip (RFC 6928)."""
_GAPS = 64
_NEVER = 2**40

Observation = dict[str, ndarray]


class Simulator:
    """One sender on every link, and its competitors; all links are at the same interval.

    A link serves a queue, first in, first out, at the capacity of its trace; what does not fit into
    its buffer is dropped. Traffic is a fluid that moves in steps of an eighth of the round trip
    without a queue; the queue's order is exact, with several flows too. A sender notices what was
    acknowledged, or lost, one such round trip after it, or what came with it, left the queue.
    Losses by chance take whole packets, before the queue. A monitoring interval has half a round
    trip, as in the public code of Aurora.

    An action is an index of `FACTORS`, what the rate is multiplied by, or two numbers, as Linux has
    them: pacing rate in Mbit/s and congestion window in packets (`UNLIMITED`, or more, for none).

    The observation is a dict of arrays with a leading batch axis; they are read-only, and **the
    next step reuses them: copy what you keep or change.** Series have the newest value last, and 0
    before the start.

    | field | shape | meaning |
    |---|---|---|
    | `sent_mbps` | (8,) | Mbit/s sent in the last intervals |
    | `throughput_mbps` | (8,) | Mbit/s acknowledged in them |
    | `rtt_ms` | (8,) | mean round-trip time of what was acknowledged |
    | `inflation` | (8,) | the same over the shortest one so far, less 1 |
    | `loss` | (8,) | share of losses among what was acknowledged or lost |
    | `rtt_gradient` | (8,) | change of the round-trip time per time, within -1 and 1 |
    | `send_ratio` | (8,) | sent over acknowledged, at most 10 |
    | `throughput_ratio` | (8,) | throughput over the present rate, at most 10 |
    | `rate_mbps` | () | sending rate, which a factor would change |
    | `inflight_packets` | () | packets of 1,500 bytes of which nothing is known yet |
    | `min_rtt_ms` | () | shortest round trip so far |
    | `interval_ms` | () | length of an interval |
    | `reward` | () | utility of the last interval, see `netllm_sims.cc.utility` |

    Args:
        links: The episodes to play.
        intervals: Their length.
        dtype: float32 or float64, of observations and rewards; the state itself is float64.

    Raises:
        ValueError: No links, no intervals, or another dtype.
    """

    def __init__(
        self, links: Sequence[Link], intervals: int, *, dtype: DTypeLike = np.float32
    ) -> None:
        if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise ValueError(f"`dtype` must be float32 or float64, got {np.dtype(dtype)}.")
        if not links or intervals < 1:
            raise ValueError(
                f"There must be at least 1 link and 1 interval, got {len(links)} and {intervals}."
            )
        self.links, self.intervals = list(links), intervals
        self.interval = intervals
        """Number of intervals that are over."""
        batch, flows = len(links), 1 + max(len(link.competitors) for link in links)
        self._history = np.zeros((batch, intervals * TICKS + 1, SENT + 2 * flows))
        for b, link in enumerate(links):
            self._history[b, :, CAPACITY] = _capacity(link, intervals)
        mean = self._history[:, -1, CAPACITY] / (intervals * TICKS)
        self._links = _constants(links, flows, mean)
        self._view = View(
            np.zeros((len(SERIES), batch, HISTORY), dtype), np.zeros((6, batch), dtype)
        )
        self._state: State | None = None
        self._observation = self._named_views()

    def reset(self) -> Observation:
        """Start all links; what the senders know before they send anything."""
        from netllm_sims.cc.compiled_cubic import fresh

        batch, flows = self._links.first.shape
        self._history[:, :, SERVED:] = 0.0
        control = np.full((batch, flows, 2), UNLIMITED * PACKET_BYTES)
        window = INITIAL_PACKETS * PACKET_BYTES
        control[:, :, 0] = (window / (ROUND_TRIP * self._links.tick_s))[:, None]
        control[:, 1:, 1] = window
        # a packet is lost at its middle, so that rounding never moves a loss to another step
        lucky = self._links.gaps[:, :, -1] - PACKET_BYTES / 2
        owed, gap = np.zeros((batch, flows)), np.zeros((batch, flows), np.int64)
        self._state = State(self._history, control, lucky, owed, gap, fresh(batch, flows))
        self._view.series[:] = 0
        self._view.scalars[:] = 0
        self._view.scalars[0] = control[:, 0, 0] * 8e-6
        self._view.scalars[2] = [link.rtt_ms for link in self.links]
        self._view.scalars[3] = [link.interval_s * 1e3 for link in self.links]
        self.interval = 0
        return self.observation

    def step(
        self, actions: Num[ndarray, "batch ..."]
    ) -> tuple[Observation, Float[ndarray, "batch"], Bool[ndarray, "batch"]]:
        """Send through the next interval on every link.

        Returns:
            The observation (reused arrays), the interval's utility, and whether the link is over
            (all at once).

        Raises:
            ValueError: An action is neither an index of `FACTORS` nor a rate and a window > 0.
            RuntimeError: The links are over or not begun.
        """
        if self._state is None or self.interval >= self.intervals:
            raise RuntimeError(
                "`step` must follow `reset`, but the links are over or not begun. Call `reset`."
            )
        from netllm_sims.cc.compiled_simulator import run

        self._state.control[:, 0] = self._controls(np.asarray(actions))
        run(self.interval, self._links, self._state, self._view)
        self.interval += 1
        over = np.full(len(self.links), self.interval >= self.intervals)
        return self.observation, self._view.scalars[4].copy(), over

    @property
    def observation(self) -> Observation:
        """What the senders see now; the arrays that `reset` and `step` return, in a new dict."""
        return dict(self._observation)

    @property
    def lost_mbps(self) -> Float[ndarray, "batch"]:
        """Losses that were noticed in the last interval (copy)."""
        return self._view.scalars[5] * 8e-6

    @property
    def coming_mbps(self) -> Float[ndarray, "batch"]:
        """Mean capacity of the interval that comes; of the last one when all are over."""
        k = min(self.interval, self.intervals - 1) * TICKS
        carried = self._history[:, k + TICKS, CAPACITY] - self._history[:, k, CAPACITY]
        return carried * 8e-6 / (TICKS * self._links.tick_s)

    @property
    def queue_packets(self) -> Float[ndarray, "batch"]:
        """Packets of 1,500 bytes of all flows that wait now."""
        now = self._history[:, self.interval * TICKS]
        return (now[:, ADMITTED::2].sum(axis=1) - now[:, SERVED]) / PACKET_BYTES

    def delivered_bytes(self, interval: int) -> Float[ndarray, "batch flow"]:
        """Bytes of each flow that the link has carried until the end of so many intervals."""
        last, links = interval * TICKS, np.arange(len(self.links))
        arrived = self._history[:, last, ARRIVED]
        row = arrived.astype(np.int64)
        below = self._history[links, row, ADMITTED::2]
        above = self._history[links, np.minimum(row + 1, last), ADMITTED::2]
        return below + (arrived - row)[:, None] * (above - below)

    def history(self, link: int) -> Float[ndarray, "tick column"]:
        """What happened on one link so far, step by step, see `simulator_arrays` (copy)."""
        return self._history[link, : self.interval * TICKS + 1].copy()

    def fairness(self) -> Float[ndarray, "batch"]:
        """Jain's index of what the flows got since the last of them began; 1 without competitors.

        Source: Jain, Chiu and Hawe, DEC Research Report 301, 1984.
        """
        index = np.ones(len(self.links))
        for b, link in enumerate(self.links):
            if link.competitors:
                since = min(max(link.competitors), self.interval)
                flows = 1 + len(link.competitors)
                got = (self.delivered_bytes(self.interval) - self.delivered_bytes(since))[b, :flows]
                if got.any():
                    index[b] = got.sum() ** 2 / (flows * (got**2).sum())
        return index

    def _controls(self, actions: ndarray) -> Float[ndarray, "batch 2"]:
        """Rate in bytes/s and window in bytes of every sender."""
        batch = len(self.links)
        if actions.dtype.kind in "iu" and actions.shape == (batch,):
            if (wrong := (actions < 0) | (actions >= len(FACTORS))).any():
                b = int(wrong.argmax())
                raise ValueError(
                    f"An action must lie between 0 and {len(FACTORS) - 1}, got {actions[b]} for "
                    f"link `{self.links[b].id}`."
                )
            rate = np.clip(self._view.scalars[0] * np.array(FACTORS)[actions], *RATES_MBPS)
            return np.stack([rate * 1.25e5, np.full(batch, UNLIMITED * PACKET_BYTES)], axis=1)
        if actions.dtype.kind == "f" and actions.shape == (batch, 2):
            if not (actions > 0).all():
                b = int((~(actions > 0)).any(axis=1).argmax())
                raise ValueError(
                    f"Rate and window must be > 0, got {actions[b]} for link `{self.links[b].id}`."
                )
            return np.minimum(actions, UNLIMITED) * (1.25e5, float(PACKET_BYTES))
        raise ValueError(
            f"Actions must be one whole number per link, shape ({batch},), or a rate in Mbit/s and "
            f"a window in packets, shape ({batch}, 2), got {actions.dtype} of shape "
            f"{actions.shape}."
        )

    def _named_views(self) -> Observation:
        scalars = ("rate_mbps", "inflight_packets", "min_rtt_ms", "interval_ms", "reward")
        views = dict(zip(SERIES, self._view.series, strict=True))
        views |= dict(zip(scalars, self._view.scalars[:5], strict=True))
        for array in views.values():
            array.setflags(write=False)
        return views


def nearest(
    controls: Float[ndarray, "batch 2"],
    rate_mbps: Float[ndarray, "batch"],
    rtt_ms: Float[ndarray, "batch"],
) -> Int[ndarray, "batch"]:
    """The indices of `FACTORS` that lead closest to rates and windows.

    Args:
        controls: Pacing rate in Mbit/s and window in packets.
        rate_mbps: Present rate.
        rtt_ms: Round-trip time, in which a window is sent.
    """
    by_window = controls[:, 1] * (PACKET_BYTES * 8e-3) / rtt_ms
    ratio = np.minimum(controls[:, 0], by_window) / rate_mbps
    return np.abs(np.log(ratio)[:, None] - np.log(FACTORS)).argmin(axis=1)


def _capacity(link: Link, intervals: int) -> Float[ndarray, "tick"]:
    """Bytes that a link can carry from its start to the end of every step."""
    rows = curve(link.trace, packet_share=1.0)
    times_s = link.start_s + np.arange(intervals * TICKS + 1) * (link.interval_s / TICKS)
    done = capacity_bytes(rows, times_s)
    return (done - done[0]) * link.scale


def _constants(links: Sequence[Link], flows: int, capacity: Float[ndarray, "batch"]) -> Links:
    """What does not change; `capacity` is the mean one, in bytes per step."""
    tick_s = np.array([link.interval_s / TICKS for link in links])
    if not (capacity > 0).all():
        link = links[int(capacity.argmin())]
        raise ValueError(
            f"Link `{link.id}` must have some capacity in its episode, got none from "
            f"{link.start_s:g} s of trace `{link.trace.id}`. Begin elsewhere in its trace, or play "
            "longer."
        )
    gaps = np.full((len(links), flows, _GAPS), np.inf)
    first = np.full((len(links), flows), _NEVER)
    for b, link in enumerate(links):
        first[b, 0] = 0
        first[b, 1 : 1 + len(link.competitors)] = np.array(link.competitors, np.int64) * TICKS
        if link.loss > 0:
            rng = np.random.default_rng(link.seed)
            gaps[b] = PACKET_BYTES * rng.geometric(link.loss, gaps[b].shape)
    buffers = np.array([link.buffer_packets * PACKET_BYTES for link in links])
    return Links(tick_s, buffers, capacity / tick_s, gaps, first)
