"""A connection through the kernel's own network, whose speed follows a trace by `tc`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from netllm.real.token_bucket import Steps
from netllm.serve.run import address

if TYPE_CHECKING:
    from netllm_sims.abr import Session

    from netllm.real.cable import Cable
    from netllm.real.play import Play


class KernelLink:
    """Lets bytes pass through a cable as a session's trace does, for one play after the other.

    Args:
        cable: what lies between players and server.
    """

    def __init__(self, cable: Cable) -> None:
        self._cable = cable
        self._following: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()

    @property
    def origin(self) -> str:
        """The server's address at the far end of the cable."""
        return address(self._cable.listener)

    def begin(self, play: Play) -> KernelLink:
        """Follow the trace of a play from now on; the play fails if that does."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                play.fail(str(error))

        self.end()
        self._begun = asyncio.Event()
        following = follow(self._cable, play.session, begun=self._begun)
        self._following = asyncio.create_task(following)
        self._following.add_done_callback(ended)
        return self

    def __enter__(self) -> KernelLink:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """Follow no trace any more."""
        if self._following is not None:
            self._following.cancel()

    async def pieces(self, content: bytes) -> AsyncIterator[bytes]:
        """The content at once: it waits in the kernel."""
        await self._begun.wait()
        yield content


async def follow(cable: Cable, session: Session, *, begun: asyncio.Event | None = None) -> None:
    """Let bytes pass through a cable as a session's trace does, from now on and for ever.

    Args:
        cable: what they pass through.
        session: trace, start in it, and factor on its bandwidth.
        begun: set when the first rate holds.

    Raises:
        RuntimeError: if `tc` refuses a rate.
    """
    clock = asyncio.get_running_loop().time
    zero_s, steps = clock() - session.start_s, Steps(session)
    zero_bytes = await cable.passed_bytes()
    while True:
        step = steps.at(clock() - zero_s)
        passed_bytes = await cable.set_rate(step.rate_bytes_s, step.bucket_bytes)
        steps.took(step, clock() - zero_s, passed_bytes - zero_bytes)
        if begun is not None:
            begun.set()
        await asyncio.sleep(step.until_s - (clock() - zero_s))
