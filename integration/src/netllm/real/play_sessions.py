"""Sessions played by real players, several at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from netllm.real.browser import PATIENCE_MS, browser
from netllm.real.cable import cable
from netllm.real.kernel_link import KernelLink
from netllm.real.play import Play
from netllm.real.play_log import Log, check
from netllm.real.player_library import library
from netllm.real.player_routes import PlayerRoutes
from netllm.real.presentation import presentation
from netllm.serve.limits import Limits
from netllm.serve.run import address, listening, server_of
from netllm.serve.service import Service

if TYPE_CHECKING:
    from socket import socket

    from netllm_sims.abr import Session, Setting
    from playwright.async_api import Browser
    from starlette.routing import BaseRoute

    from netllm.real.watch import Watch

LINKS = ("user-space", "tc")
"""What shapes a connection: this process, or the kernel."""
_LONGEST = 20
"""A session may take so many times as long as its video, stalls and all."""


async def play_sessions(
    setting: Setting,
    sessions: Sequence[Session],
    *,
    server: str,
    player: str,
    players: int,
    deadline_s: float,
    ended: Callable[[Session, Log], None],
    link: str = "user-space",
    watch: Watch | None = None,
) -> None:
    """Play sessions in real time; once one has failed, none begins any more.

    Args:
        setting: where they take place.
        sessions: traces and starts.
        server: address of the server that decides; it must let pages of other origins ask.
        player: which one, by its name in `LIBRARIES`.
        players: how many play at once.
        deadline_s: after so long a player goes on without the server's answer.
        ended: called with every session that was played, and what its player told; where it has
            failed the log has an error.
        link: what segments pass through, one of `LINKS`.
        watch: shows the plays on a page.

    Raises:
        FileNotFoundError: if Chromium, ffmpeg, npm or a program of the link is missing.
        ConnectionError: if the player's library cannot be fetched.
        PermissionError: if the link may not be made.
        RuntimeError: if Chromium or the link cannot be started.
        ValueError: if a video cannot be played.
    """
    library(player)
    usual = setting.video
    shown = {video: presentation(video) for video in {one.video or usual for one in sessions}}
    routes = PlayerRoutes()
    waiting = deque(sessions)
    make = partial(Play, setting=setting, player=player, deadline_s=deadline_s, server=server)

    async def one_after_the_other(opened: Browser, where: str, **way: Any) -> None:
        while waiting:
            session = waiting.popleft()
            play = make(session=session, shown=shown[session.video or usual], **way)
            log = await play_one(play, routes, opened, where)
            ended(session, log)
            if log.error:
                waiting.clear()

    async with (
        _links(link, min(players, len(waiting))) as (ways, listeners),
        _stage(routes, watch, listeners) as (opened, where),
    ):
        try:
            async with asyncio.TaskGroup() as all_:
                for way in ways:
                    all_.create_task(one_after_the_other(opened, where, **way))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None


@asynccontextmanager
async def _links(link: str, count: int) -> AsyncIterator[tuple[list[dict[str, Any]], list[socket]]]:
    """What plays of so many players are told of their links, and where these are listened on."""
    if link != "tc":
        yield [{} for _ in range(count)], []
        return
    async with AsyncExitStack() as ends:
        cables = [await ends.enter_async_context(cable()) for _ in range(count)]
        links = [ends.enter_context(KernelLink(one)) for one in cables]
        ways = [{"begin": one.begin, "origin": one.origin} for one in links]
        yield ways, [one.listener for one in cables]


@asynccontextmanager
async def _stage(
    routes: PlayerRoutes, watch: Watch | None, more: Sequence[socket]
) -> AsyncIterator[tuple[Browser, str]]:
    """A browser, and the address of the server of its plays; watched on a page, if on any."""
    service = Service({}, Limits())
    if watch is None:
        async with serving(service, routes.routes(), more=more) as where, browser() as opened:
            yield opened, where
        return
    shown = [*routes.routes(), *watch.routes(routes.plays)]
    async with (
        serving(service, shown, port=watch.port, more=more) as where,
        browser(headless=not watch.headed) as opened,
    ):
        await watch.show(opened, where)
        yield opened, where


async def play_one(play: Play, routes: PlayerRoutes, opened: Browser, where: str) -> Log:
    """What a player tells of a play, to its end; with an error if it has failed.

    Args:
        play: which session, in which player.
        routes: of the server that shows it.
        opened: the browser to play in.
        where: the server's address.
    """
    from playwright.async_api import Error

    video = play.shown.video
    context = await opened.new_context()
    routes.add(play)
    try:
        page = await context.new_page()
        page.on("crash", lambda _: play.fail("The page has crashed."))
        page.on("close", lambda _: play.fail("The page was closed."))
        await page.goto(where + play.page, timeout=PATIENCE_MS)
        async with asyncio.timeout(_LONGEST * video.chunk_s * video.chunks):
            await play.ended.wait()
        if not play.log.error:
            check(play.log, video)
    except TimeoutError:
        play.fail(f"It has not ended after {_LONGEST} times the length of its video.")
    except Error as error:
        play.fail(f"Its page cannot be opened: {error.message}")
    except ValueError as error:
        return Log(play.log.chunks, error=str(error))
    finally:
        routes.remove(play)
        with suppress(Error):  # the browser may be gone
            await context.close()
    return play.log


@asynccontextmanager
async def serving(
    service: Service,
    routes: Sequence[BaseRoute],
    *,
    port: int = 0,
    more: Sequence[socket] = (),
) -> AsyncIterator[str]:
    """The address of a server that answers and shows videos, in this event loop.

    Args:
        service: who decides.
        routes: what is shown.
        port: where; a free one if 0.
        more: sockets that listen elsewhere.
    """
    server = server_of(service, routes=routes)
    with listening("127.0.0.1", port) as listener:
        running = asyncio.create_task(server.serve([listener, *more]))
        try:
            while not server.started:
                if running.done():
                    await running
                await asyncio.sleep(0.01)
            yield address(listener)
        finally:
            server.should_exit = True
            await running
