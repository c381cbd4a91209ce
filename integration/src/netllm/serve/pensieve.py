"""Pensieve's protocol: a player POSTs what it knows as JSON, the answer is a level as text.

The player asks before every chunk but the first. Sizes of coming chunks are the setting's, as they
are the server's in Pensieve; there one server serves one player, here every player has a session.

Source: `rl_server/rl_server_no_training.py` and the dash.js of github.com/hongzimao/pensieve (Mao
et al., SIGCOMM 2017).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from netllm.abr.playback import Playback
from netllm.serve.guard import body, check_origin, decoded
from netllm.serve.service import Refused, Service
from netllm.serve.sessions import OpenSession

TASK = "abr"
PATHS = ("/", "/pensieve/{player}")
"""Where players ask: one for each address, or any number that name themselves."""
OVER = "REFRESH"
"""The answer after the last chunk: players load their page anew."""

Milliseconds = Annotated[float, Meta(ge=0, le=1e15)]


class PensieveMessage(msgspec.Struct, frozen=True):
    """What a player tells after a chunk; its other fields are not read."""

    level: Annotated[int, Meta(ge=0, description="Level of the last chunk.")] = msgspec.field(
        name="lastquality"
    )
    chunk: Annotated[int, Meta(ge=0, description="Its number, from 0.")] = msgspec.field(
        name="lastRequest"
    )
    buffer_s: Annotated[float, Meta(ge=0, le=1e9, description="Seconds in the buffer.")] = (
        msgspec.field(name="buffer")
    )
    stalled_ms: Annotated[
        Milliseconds, Meta(description="Time without playback since the page was loaded, in ms.")
    ] = msgspec.field(name="RebufferTime")
    finish_ms: Annotated[Milliseconds, Meta(description="When its download ended.")] = (
        msgspec.field(name="lastChunkFinishTime")
    )
    start_ms: Annotated[Milliseconds, Meta(description="When its download began.")] = msgspec.field(
        name="lastChunkStartTime"
    )
    size_bytes: Annotated[float, Meta(ge=0, le=1e12, description="Its size in bytes.")] = (
        msgspec.field(name="lastChunkSize")
    )


class _Summary(msgspec.Struct):
    """Marks a message at the end of a page, to which there is no answer."""

    past: msgspec.Raw | msgspec.UnsetType = msgspec.field(
        name="pastThroughput", default=msgspec.UNSET
    )


@dataclass(eq=False)
class _Player:
    session: OpenSession
    playback: Playback
    told: PensieveMessage | None = None
    """Its last message."""
    stall_s: float = 0.0
    """Time without playback since the message before."""
    answer: str | None = None
    """To its last message."""

    def take(self, told: PensieveMessage) -> None:
        """Take a message, which may be the last one again.

        Raises:
            Refused: if it contradicts an earlier one.
        """
        if told == self.told:
            return
        first_ms = 0.0 if told.chunk == 0 else told.stalled_ms
        before_ms = self.told.stalled_ms if self.told else first_ms
        if told.stalled_ms < before_ms:
            raise Refused(
                422,
                f"`RebufferTime` must not fall within a video, got {told.stalled_ms:g} after "
                f"{before_ms:g} ms.",
            )
        self.playback.played(told.level)
        self.playback.downloaded(told.size_bytes * 1e-6, (told.finish_ms - told.start_ms) * 1e-3)
        self.told, self.stall_s, self.answer = told, (told.stalled_ms - before_ms) * 1e-3, None


class Pensieve:
    """Answers players.

    Args:
        service: decides; it serves `TASK`.
        allow_origins: pages of these origins may ask.
    """

    def __init__(self, service: Service, allow_origins: Sequence[str] = ()) -> None:
        self._service, self._allow_origins = service, allow_origins
        self._setting = service.seats[TASK].setting
        self._sizes_mb = (self._setting.video.sizes_bytes * 1e-6).tolist()
        self._players: dict[str, _Player] = {}

    async def answer(self, request: Request) -> Response:
        """The answer to a player: a level, or `OVER`."""
        check_origin(request, self._allow_origins)
        content = await body(request, self._service.limits, any_type=True)
        if decoded(_SUMMARY, content).past is not msgspec.UNSET:
            return Response(status_code=204)
        host = request.client.host if request.client else ""
        own = request.path_params.get("player")
        name = f"at {host}" if own is None else f"named {own}"
        return Response(await self._level(name, decoded(_TOLD, content)), media_type="text/plain")

    async def _level(self, name: str, told: PensieveMessage) -> str:
        self._check(told)
        player = self._players.get(name)
        if player is not None and player.session.busy:
            raise Refused(409, "This player is being answered already.", retry_s=1)
        if told.chunk >= len(self._sizes_mb) - 1:
            self._end(name)
            return OVER
        player = self._followed(name, told)
        player.take(told)
        if player.answer is None:
            level = await self._service.answer(TASK, player.session, self._seen(player))
            player.answer = str(level)
        return player.answer

    def _check(self, told: PensieveMessage) -> None:
        """Raise unless level and times can be.

        Raises:
            Refused: with the field.
        """
        top = len(self._setting.video.rates_kbps) - 1
        if told.level > top:
            raise Refused(422, f"`lastquality` must lie between 0 and {top}, got {told.level}.")
        if told.finish_ms < told.start_ms:
            raise Refused(
                422,
                "`lastChunkFinishTime` must not lie before `lastChunkStartTime`, got "
                f"{told.finish_ms:.15g} and {told.start_ms:.15g} ms.",
            )

    def _followed(self, name: str, told: PensieveMessage) -> _Player:
        """The player that goes on, or one that begins: its page was loaded anew, or it idled."""
        player = self._players.get(name)
        if player is not None and self._is_open(player):
            last = player.told
            if last is None or told == last or told.chunk > last.chunk:
                return player
        self._end(name)
        self._players = {k: one for k, one in self._players.items() if self._is_open(one)}
        (session,) = self._service.open(TASK, 1)
        self._players[name] = _Player(session, Playback(self._setting))
        return self._players[name]

    def _seen(self, player: _Player) -> dict[str, Any]:
        told = player.told
        assert told is not None
        return player.playback.observation(
            buffer_s=told.buffer_s,
            stall_s=player.stall_s,
            chunks_left=max(1, self._setting.video.chunks - 1 - told.chunk),
            sizes_mb=self._sizes_mb[told.chunk + 1 :],
        )

    def _is_open(self, player: _Player) -> bool:
        return self._service.sessions.find(TASK, player.session.id) is player.session

    def _end(self, name: str) -> None:
        player = self._players.pop(name, None)
        if player is not None:
            self._service.sessions.close(player.session)


def routes(
    service: Service, allow_origins: Sequence[str]
) -> dict[str, Callable[[Request], Awaitable[Response]]]:
    """Who answers at which path; nobody where the service does not stream videos on demand.

    Args:
        service: what is served.
        allow_origins: pages of these origins may ask.
    """
    if TASK not in service.seats or service.seats[TASK].setting.live:
        return {}
    return dict.fromkeys(PATHS, Pensieve(service, allow_origins).answer)


_TOLD = msgspec.json.Decoder(PensieveMessage)
_SUMMARY = msgspec.json.Decoder(_Summary)
