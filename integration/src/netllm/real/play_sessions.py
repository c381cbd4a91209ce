"""Sessions played by real players, several at a time, behind the server of `netllm serve`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import uvicorn

from netllm.real.browser import browser
from netllm.real.play_log import Log, check
from netllm.real.player_library import library
from netllm.real.player_routes import Play, PlayerRoutes
from netllm.real.presentation import presentation
from netllm.serve.app import application
from netllm.serve.limits import Limits
from netllm.serve.run import address, listening
from netllm.serve.seat import Seat
from netllm.serve.service import Service

if TYPE_CHECKING:
    from netllm_sims.abr import Session
    from playwright.async_api import Browser

_LONGEST = 20
"""A session may take so many times as long as its video, stalls and all."""


async def play_sessions(
    seat: Seat,
    sessions: Sequence[Session],
    *,
    player: str,
    players: int,
    limits: Limits,
    played: Callable[[Session, Log], None],
) -> None:
    """Play sessions in real time.

    Args:
        seat: who decides, in the setting that is played.
        sessions: traces and starts.
        player: which one, by its name in `LIBRARIES`.
        players: how many play at once.
        limits: of the server; its deadline is the players' too.
        played: called with every session that was played to its end.

    Raises:
        RuntimeError: if a player fails, or does not come to its end.
        FileNotFoundError: if Chromium or ffmpeg is missing.
    """
    routes = PlayerRoutes()
    library(player)
    shown = presentation(seat.setting.video)
    free = asyncio.Semaphore(players)

    async def one(session: Session, opened: Browser, where: str) -> None:
        async with free:
            log = asyncio.get_running_loop().create_future()
            play = Play(session, seat.setting, shown, log, limits.deadline_s, player)
            played(session, await _played(play, routes, opened, where))

    service = Service({seat.name: seat}, limits)
    async with _serving(service, routes) as where, browser() as opened:
        try:
            async with asyncio.TaskGroup() as all_:
                for session in sessions:
                    all_.create_task(one(session, opened, where))
        except* RuntimeError as failed:
            raise failed.exceptions[0] from None


async def _played(play: Play, routes: PlayerRoutes, opened: Browser, where: str) -> Log:
    """The log of one play."""
    video = play.setting.video
    context = await opened.new_context()
    routes.add(play)
    try:
        page = await context.new_page()
        await page.goto(where + play.page)
        async with asyncio.timeout(_LONGEST * video.chunk_s * video.chunks):
            log = await play.log
        check(log, play.setting)
    except (TimeoutError, ValueError) as error:
        told = str(error) or "it did not come to the end of the video in time."
        raise RuntimeError(f"Session {play.session.id!r} in a real player: {told}") from error
    finally:
        routes.remove(play)
        await context.close()
    return log


@asynccontextmanager
async def _serving(service: Service, routes: PlayerRoutes) -> AsyncIterator[str]:
    """The address of a server that answers and shows videos, in this event loop."""
    app = application(service)
    app.router.routes.extend(routes.routes())
    config = uvicorn.Config(app, access_log=False, log_config=None, lifespan="on", ws="none")
    server = uvicorn.Server(config)
    with listening("127.0.0.1", 0) as listener:
        running = asyncio.create_task(server.serve([listener]))
        try:
            while not server.started:
                if running.done():
                    await running
                await asyncio.sleep(0.01)
            yield address(listener)
        finally:
            server.should_exit = True
            await running
