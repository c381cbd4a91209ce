"""Rates of a token bucket in the kernel, by which it lets through what a session's trace does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from netllm_sims.abr import capacity_bytes

from netllm.real.shaped_link import session_curve

if TYPE_CHECKING:
    from netllm_sims.abr import Session

FRAME_BYTES = 1_514
"""A full packet of Ethernet with its headers: the least that a bucket must hold."""
_LEAST_STEP_S = 0.2
"""A step is at least so long: what the trace does in it is taken together."""
_HELD_S = 0.01
"""A bucket holds so much more, for the kernel's timers are late now and then."""
_MOST_MADE_UP = 2.0
"""The rate of a step is at most so many times its own, and at least so small a part."""
_LEAST_BYTES_S = 125.0
"""In an outage; a kernel knows no rate of 0."""


@dataclass(frozen=True)
class Step:
    """One rate, and until when it is right."""

    rate_bytes_s: float
    until_s: float
    """Trace time."""

    @property
    def bucket_bytes(self) -> int:
        """What may pass at once."""
        return FRAME_BYTES + round(self.rate_bytes_s * _HELD_S)


class Steps:
    """A rate after the other, by the simulator's own capacity curve.

    A change comes a little late, and the kernel fills the bucket at it. What passes too much or too
    little by that is made up for in the steps after it, so that errors do not add up.

    Args:
        session: trace, start in it, and factor on its bandwidth.
    """

    def __init__(self, session: Session) -> None:
        self._rows = session_curve(session, packet_share=1.0)  # headers are real here
        self._since_s = session.start_s
        self._rate_bytes_s = 0.0
        self._given_bytes = self._due_bytes(session.start_s)
        self._unused_bytes = self._given_bytes
        """What was given and not sent: nobody came, or the bucket was full."""

    def at(self, now_s: float) -> Step:
        """The step to be taken now, in trace time."""
        until_s = self._next_change_s(now_s)
        length_s = until_s - now_s
        end_bytes = self._due_bytes(until_s)
        own = (end_bytes - self._due_bytes(now_s)) / length_s
        left_bytes = end_bytes - self._given_at(now_s) - FRAME_BYTES / 2
        bounds = np.maximum(_LEAST_BYTES_S, [own / _MOST_MADE_UP, own * _MOST_MADE_UP])
        return Step(float(np.clip(left_bytes / (length_s + _HELD_S), *bounds)), until_s)

    def took(self, step: Step, now_s: float, sent_bytes: float) -> None:
        """A step has been taken, in trace time, after so much had been sent in all steps."""
        given_bytes = self._given_at(now_s)
        inside_bytes = given_bytes - self._unused_bytes - sent_bytes
        if not 0 <= inside_bytes <= FRAME_BYTES:  # with that much a packet would have been sent
            inside_bytes = FRAME_BYTES / 2
            self._unused_bytes = given_bytes - sent_bytes - inside_bytes
        self._given_bytes = given_bytes + step.bucket_bytes - inside_bytes
        self._since_s, self._rate_bytes_s = now_s, step.rate_bytes_s

    def _given_at(self, now_s: float) -> float:
        """What has passed, and is in the bucket, if there was always something to send."""
        return self._given_bytes + self._rate_bytes_s * (now_s - self._since_s)

    def _due_bytes(self, time_s: float) -> float:
        return float(capacity_bytes(self._rows, np.array(time_s)))

    def _next_change_s(self, now_s: float) -> float:
        """When the trace's bandwidth changes next, but for the next moment."""
        points_s = self._rows[:, 0]
        laps, rest_s = divmod(now_s, points_s[-1])
        point = int(np.searchsorted(points_s, rest_s, side="right"))
        return max(float(laps * points_s[-1] + points_s[point]), now_s + _LEAST_STEP_S)
