"""Routes by which real players get their page and their video, at the speed of a trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from netllm.real.play import Play
from netllm.real.play_log import Log
from netllm.real.player_library import LIBRARIES, library
from netllm.serve.guard import body, decoded
from netllm.serve.limits import Limits
from netllm.serve.service import Refused

Answer = Callable[[Play, Request], Awaitable[Response]]
_SEGMENT, _PLAYLIST = "video/mp4", "application/vnd.apple.mpegurl"
_NO_STORE = {"Cache-Control": "no-store"}
_ANY_PAGE = {"Access-Control-Allow-Origin": "*", "Timing-Allow-Origin": "*"}
"""The page may come from another address than the segments."""
_LIMITS = Limits(body_bytes=1 << 20)
_LOG = msgspec.json.Decoder(Log)


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

    def plays(self) -> list[Play]:
        """Those that are under way."""
        return [*self._plays.values()]

    def routes(self) -> list[Route]:
        """Those of all plays."""
        of_play = {
            "page.html": _page,
            "manifest.mpd": _manifest,
            "master.m3u8": _master,
            "{level:int}/list.m3u8": _list,
            "{level:int}/init.mp4": _init,
            "{level:int}/{number:int}.m4s": _segment,
        }
        return [
            Route("/real/library/{player}.js", _library),
            Route("/real/{play}/log", self._endpoint(_log), methods=["POST"]),
            *(Route(f"/real/{{play}}/{path}", self._endpoint(of_play[path])) for path in of_play),
        ]

    def _endpoint(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """A route that answers for a play; 404 where there is none, or not what is asked for."""

        async def endpoint(request: Request) -> Response:
            play = self._plays.get(request.path_params["play"])
            try:
                return _missing() if play is None else await answer(play, request)
            except KeyError:
                return _missing()
            except Refused as refused:
                return Response(str(refused), refused.status)

        return endpoint


async def _page(play: Play, request: Request) -> Response:
    page = files("netllm.real").joinpath("page.html").read_text(encoding="utf-8")
    options = msgspec.json.encode(play.options()).decode()
    page = page.replace("{options}", options).replace("{player}", play.player)
    return HTMLResponse(page, headers=_NO_STORE)


async def _log(play: Play, request: Request) -> Response:
    play.told(decoded(_LOG, await body(request, _LIMITS)))
    return Response(status_code=204)


async def _manifest(play: Play, request: Request) -> Response:
    return Response(
        play.shown.mpd(base=play.base), media_type="application/dash+xml", headers=_NO_STORE
    )


async def _master(play: Play, request: Request) -> Response:
    return Response(play.shown.m3u8(), media_type=_PLAYLIST, headers=_NO_STORE)


async def _list(play: Play, request: Request) -> Response:
    content = play.shown.m3u8(request.path_params["level"], base=play.base)
    return Response(content, media_type=_PLAYLIST, headers=_NO_STORE)


async def _init(play: Play, request: Request) -> Response:
    content = play.shown.init(request.path_params["level"])
    return Response(content, media_type=_SEGMENT, headers=_NO_STORE)


async def _segment(play: Play, request: Request) -> Response:
    """A segment, a round trip after it was asked for, at the speed of the trace."""
    content = play.shown.segment(request.path_params["level"], request.path_params["number"])
    link = await play.connection()
    headers = {**_NO_STORE, **_ANY_PAGE, "Content-Length": str(len(content))}
    return StreamingResponse(link.pieces(content), media_type=_SEGMENT, headers=headers)


async def _library(request: Request) -> Response:
    player = request.path_params["player"]
    if player not in LIBRARIES:
        return _missing()
    return Response(library(player).read_bytes(), media_type="text/javascript")


def _missing() -> Response:
    return Response("There is no such play, player, level or segment.", 404)
