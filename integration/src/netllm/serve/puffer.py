"""Puffer's protocol: messages of JSON over a UNIX socket, the answer is the level as `action`.

A message is two bytes, its length with the higher one first, and as many bytes of JSON. A
connection is one viewer. Puffer shows live television: there is no last chunk, so the model always
sees as many chunks left as at the beginning of the setting's video. Qualities (SSIM) are not read.

Source: `src/abr/python_ipc.cc` of github.com/StanfordSNR/puffer (Yan et al., NSDI 2020).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from netllm.abr.observation_fields import HISTORY
from netllm.abr.playback import Playback
from netllm.serve.guard import decoded
from netllm.serve.limits import Limits
from netllm.serve.seat import Seat
from netllm.serve.service import Refused, Service
from netllm.serve.sessions import OpenSession

logger = logging.getLogger(__name__)

TASK = "abr"
LENGTH_BYTES = 2
"""Of the length in front of a message."""

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Megabytes = Annotated[float, Meta(ge=0, le=1e6)]


class PastChunk(msgspec.Struct, frozen=True):
    """The last chunk that the viewer has; zeros before the first."""

    delay: Seconds
    """Its download time."""
    size: Megabytes


def check(seats: Mapping[str, Seat]) -> None:
    """Raise ValueError unless what is served can decide by what Puffer tells."""
    if TASK not in seats:
        raise ValueError(f"--puffer-socket needs a checkpoint of {TASK}.")
    if seats[TASK].setting.live:
        raise ValueError(
            f"--puffer-socket needs video on demand, but setting {seats[TASK].setting.name!r} is "
            "live: Puffer does not tell how far playback is behind the live edge."
        )


class PufferMessage(msgspec.Struct):
    """What Puffer tells before each chunk; its other fields are not read."""

    past_chunk: PastChunk
    buffer: Seconds
    """Playback time in the buffer."""
    cum_rebuf: Seconds
    """Time without playback so far."""
    sizes: Annotated[list[list[Megabytes]], Meta(min_length=1, max_length=100)]
    """Of the coming chunks, by level."""
    channel_name: str = ""


@dataclass(eq=False)
class _Viewer:
    """One connection."""

    playback: Playback
    session: OpenSession | None = None
    """None until there is room for one."""
    past: PastChunk = PastChunk(0.0, 0.0)  # noqa: RUF009
    channel: str = ""
    stalled_s: float = 0.0
    """As the message before said."""


class Puffer:
    """Answers viewers.

    Args:
        service: decides; it serves `TASK`.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._setting = service.seats[TASK].setting
        self._connections: set[asyncio.Task[None]] = set()

    async def run(self, listener: socket.socket) -> None:
        """Answer whoever connects, until cancelled."""
        server = await asyncio.start_unix_server(self._serve, sock=listener)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            connections = [*self._connections]
            for connection in connections:
                connection.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one viewer until the connection ends."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        viewer = _Viewer(Playback(self._setting))
        try:
            with suppress(OSError):  # the client may vanish at any time
                await self._answer(viewer, reader, writer)
        finally:
            self._forget(viewer)
            writer.close()
            self._connections.discard(task)

    async def _answer(
        self, viewer: _Viewer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer message after message; the last one may be why no more are answered."""
        try:
            while message := await _message(reader, self._service.limits):
                answer = {"action": await self._level(viewer, decoded(_TOLD, message))}
                await _send(writer, answer)
        except Refused as refused:
            logger.warning("A viewer on Puffer's socket is refused: %s", refused)
            self._service.metrics.refused(refused.status)
            await _send(writer, {"error": str(refused)})

    async def _level(self, viewer: _Viewer, told: PufferMessage) -> int:
        """The level of the next chunk; the lowest while nothing was measured."""
        levels = len(self._setting.video.rates_kbps)
        for row, sizes in enumerate(told.sizes):
            if len(sizes) != levels:
                raise Refused(
                    422,
                    f"`sizes[{row}]` must hold {levels} sizes, one for each rate of the setting "
                    f"{self._setting.name!r}, got {len(sizes)}.",
                )
        seen, level = self._seen(viewer, told), 0
        if viewer.playback.measured:
            if viewer.session is None:
                with suppress(Refused):  # there is no room
                    (viewer.session,) = self._service.open(TASK, 1)
            level = int(await self._service.answer(TASK, viewer.session, seen))
        viewer.playback.played(level)
        return level

    def _seen(self, viewer: _Viewer, told: PufferMessage) -> dict[str, Any]:
        if told.channel_name != viewer.channel:
            self._forget(viewer)
            viewer.channel = told.channel_name
        if told.past_chunk != viewer.past:  # on a new channel it is still the one before
            viewer.playback.downloaded(told.past_chunk.size, told.past_chunk.delay)
        began_anew = told.cum_rebuf < viewer.stalled_s
        stall_s = told.cum_rebuf - (0.0 if began_anew else viewer.stalled_s)
        viewer.past, viewer.stalled_s = told.past_chunk, told.cum_rebuf
        last = told.sizes[-1]
        return viewer.playback.observation(
            buffer_s=told.buffer,
            stall_s=stall_s,
            chunks_left=self._setting.video.chunks - 1,
            sizes_mb=told.sizes + [last] * (HISTORY - len(told.sizes)),
        )

    def _forget(self, viewer: _Viewer) -> None:
        if viewer.session is not None:
            self._service.sessions.close(viewer.session)
            viewer.session = None


_TOLD = msgspec.json.Decoder(PufferMessage)


async def _message(reader: asyncio.StreamReader, limits: Limits) -> bytes:
    """The next message; empty when the client has ended.

    Raises:
        Refused: if the client idles, or its message is too long, too slow or cut off.
    """
    try:
        async with asyncio.timeout(limits.idle_s):
            head = await reader.readexactly(LENGTH_BYTES)
    except TimeoutError:
        raise Refused(408, f"Nothing was asked for {limits.idle_s:g} s.") from None
    except asyncio.IncompleteReadError as cut:
        if not cut.partial:
            return b""
        raise Refused(400, "The message ended within its length.") from None
    length = int.from_bytes(head, "big")
    if length > limits.body_bytes:
        raise Refused(413, f"A message may have {limits.body_bytes:,} bytes, got {length:,}.")
    try:
        async with asyncio.timeout(limits.body_s):
            return await reader.readexactly(length) or b" "
    except TimeoutError:
        raise Refused(408, f"A message must arrive within {limits.body_s:g} s.") from None
    except asyncio.IncompleteReadError as cut:
        raise Refused(
            400, f"The message ended after {len(cut.partial)} of its {length} bytes."
        ) from None


async def _send(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    content = msgspec.json.encode(answer)
    writer.write(len(content).to_bytes(LENGTH_BYTES, "big") + content)
    await writer.drain()


@contextmanager
def listening(path: str | Path) -> Iterator[socket.socket]:
    """A UNIX socket that listens; a file that a server left there before is replaced.

    Raises:
        OSError: if another server listens there, or something else lies there.
    """
    path = Path(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            _check_stale(path)
            path.unlink()
        listener.bind(str(path))
        listener.listen()
    except OSError as error:
        listener.close()
        raise OSError(f"Cannot listen on {path}: {error}.") from error
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def _check_stale(path: Path) -> None:
    """Raise unless nobody listens on a socket that lies there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
    raise OSError(errno.EADDRINUSE, "another server listens there")
