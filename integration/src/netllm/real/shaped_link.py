"""A connection whose speed follows a trace, in user space and in real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from netllm_sims.abr import capacity_bytes, curve, delivery_s

if TYPE_CHECKING:
    from netllm_sims.abr import Session
    from numpy import ndarray

PACKET_BYTES = 1_448
"""The least that is sent at once: what a packet of Ethernet holds besides its headers."""
_PIECE_S = 0.02
_CREDIT_S = 0.1
"""A download that is under way makes up for so much time in which nobody came to send."""


def session_curve(session: Session, *, packet_share: float) -> Float[ndarray, "row 4"]:
    """The simulator's own capacity curve of a session's trace, in trace time."""
    rows = curve(session.trace, packet_share=packet_share)
    rows[:, 1:3] *= session.scale
    rows[:, 3] /= session.scale
    return rows


class ShapedLink:
    """Lets bytes pass no faster than a session's trace does, in real time.

    Its speed is the simulator's own capacity curve, from the session's start on, over and over.
    What several downloads send passes in the order in which they came, as through one queue;
    capacity that nobody uses is lost.

    Args:
        session: trace, start in it, and factor on its bandwidth.
        packet_share: share of the bandwidth that is left for payload, as the simulator takes it.
        clock: seconds that never go back.
        sleep: waits for so many of them.
    """

    def __init__(
        self,
        session: Session,
        *,
        packet_share: float = 0.95,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rows = session_curve(session, packet_share=packet_share)
        self._clock, self._sleep = clock, sleep
        self._zero_s = clock() - session.start_s
        self._passed_bytes = 0.0
        self._turn = asyncio.Lock()

    async def pieces(self, content: bytes) -> AsyncIterator[bytes]:
        """The content in pieces, each when its last byte has passed."""
        sent, credit_s = 0, 0.0
        while sent < len(content):
            size = min(self._piece_bytes(), len(content) - sent)
            await self._pass(size, credit_s)
            yield content[sent : sent + size]
            sent, credit_s = sent + size, _CREDIT_S

    def _now_s(self) -> float:
        """Time of the curve."""
        return self._clock() - self._zero_s

    def _piece_bytes(self) -> int:
        """What passes in `_PIECE_S`, in whole packets and at least one."""
        now_s = self._now_s()
        before, after = capacity_bytes(self._rows, np.array([now_s, now_s + _PIECE_S]))
        return max(1, int((after - before) / PACKET_BYTES)) * PACKET_BYTES

    async def _pass(self, size: int, credit_s: float) -> None:
        """Wait until so many more bytes have passed."""
        async with self._turn:
            unused = capacity_bytes(self._rows, np.array(self._now_s() - credit_s))
            self._passed_bytes = max(self._passed_bytes, float(unused)) + size
            until_s = float(delivery_s(self._rows, np.array(self._passed_bytes)))
            if (wait_s := until_s - self._now_s()) > 0:
                await self._sleep(wait_s)
