"""Routes by which real players get their page and their video, at the speed of a trace."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from netllm.real.play_log import Log
from netllm.real.player_library import LIBRARIES, library
from netllm.real.shaped_link import ShapedLink

if TYPE_CHECKING:
    from netllm_sims.abr import Session, Setting

    from netllm.real.presentation import Presentation

_SEGMENT, _PLAYLIST = "video/mp4", "application/vnd.apple.mpegurl"
_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(eq=False)
class Play:
    """One session, as one player plays it."""

    session: Session
    setting: Setting
    shown: Presentation
    log: asyncio.Future[Log]
    deadline_s: float
    player: str
    """Whose library its page loads: a name of `LIBRARIES`."""
    id: str = field(default_factory=partial(secrets.token_urlsafe, 9))
    link: ShapedLink | None = None
    """Begins with the first segment that is asked for."""

    @property
    def page(self) -> str:
        """Path of its page."""
        return f"/real/{self.id}/page.html"

    def options(self) -> dict[str, Any]:
        """What the page tells the player's adapter."""
        video = self.setting.video
        return {
            "sizesMb": (video.sizes_bytes[: video.chunks] * 1e-6).tolist(),
            "ratesKbps": list(video.rates_kbps),
            "chunkS": video.chunk_s,
            "bufferS": self.setting.buffer_cap_s,
            "deadlineMs": self.deadline_s * 1e3,
        }


class PlayerRoutes:
    """The plays that are under way, and what their players ask for."""

    def __init__(self) -> None:
        self._plays: dict[str, Play] = {}

    def add(self, play: Play) -> None:
        """Let a player play it."""
        self._plays[play.id] = play

    def remove(self, play: Play) -> None:
        """It has been played."""
        del self._plays[play.id]

    def routes(self) -> list[Route]:
        """Those of all plays."""
        return [
            Route("/real/library/{player}.js", _library),
            Route("/real/{play}/page.html", self._page),
            Route("/real/{play}/log", self._log, methods=["POST"]),
            Route("/real/{play}/manifest.mpd", self._manifest),
            Route("/real/{play}/master.m3u8", self._master),
            Route("/real/{play}/{level:int}/list.m3u8", self._list),
            Route("/real/{play}/{level:int}/init.mp4", self._init),
            Route("/real/{play}/{level:int}/{number:int}.m4s", self._segment),
        ]

    async def _page(self, request: Request) -> Response:
        play = self._play(request)
        if play is None:
            return _missing()
        page = files("netllm.real").joinpath("page.html").read_text(encoding="utf-8")
        options = msgspec.json.encode(play.options()).decode()
        page = page.replace("{options}", options).replace("{player}", play.player)
        return HTMLResponse(page, headers=_NO_STORE)

    async def _log(self, request: Request) -> Response:
        play = self._play(request)
        if play is None:
            return _missing()
        try:
            log = msgspec.json.decode(await request.body(), type=Log)
        except msgspec.DecodeError as error:
            return Response(str(error), 422)
        if not play.log.done():
            play.log.set_result(log)
        return Response(status_code=204)

    async def _manifest(self, request: Request) -> Response:
        play = self._play(request)
        if play is None:
            return _missing()
        return Response(play.shown.mpd(), media_type="application/dash+xml", headers=_NO_STORE)

    async def _master(self, request: Request) -> Response:
        play = self._play(request)
        if play is None:
            return _missing()
        return Response(play.shown.m3u8(), media_type=_PLAYLIST, headers=_NO_STORE)

    async def _list(self, request: Request) -> Response:
        play, level = self._play(request), request.path_params["level"]
        if play is None or level >= play.setting.video.levels:
            return _missing()
        return Response(play.shown.m3u8(level), media_type=_PLAYLIST, headers=_NO_STORE)

    async def _init(self, request: Request) -> Response:
        play = self._play(request)
        if play is None:
            return _missing()
        return Response(play.shown.init, media_type=_SEGMENT, headers=_NO_STORE)

    async def _segment(self, request: Request) -> Response:
        """A segment, a round trip after it was asked for, at the speed of the trace."""
        play = self._play(request)
        level, number = request.path_params["level"], request.path_params["number"]
        if play is None:
            return _missing()
        try:
            content = play.shown.segment(level, number)
        except KeyError:
            return _missing()
        await asyncio.sleep(play.setting.rtt_s)
        if play.link is None:
            play.link = ShapedLink(play.session, packet_share=play.setting.packet_share)
        headers = {**_NO_STORE, "Content-Length": str(len(content))}
        return StreamingResponse(play.link.pieces(content), media_type=_SEGMENT, headers=headers)

    def _play(self, request: Request) -> Play | None:
        return self._plays.get(request.path_params["play"])


async def _library(request: Request) -> Response:
    player = request.path_params["player"]
    if player not in LIBRARIES:
        return _missing()
    return Response(library(player).read_bytes(), media_type="text/javascript")


def _missing() -> Response:
    return Response("There is no such play, level or segment.", 404)
