"""A page that shows the plays that are under way, beside what others did in the same sessions."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from netllm.real.play_log import figures, pictured

if TYPE_CHECKING:
    from netllm_sims.abr.session_picture import Chunk
    from playwright.async_api import Browser

    from netllm.real.play import Play
    from netllm.real.session_plots import Sessions

logger = logging.getLogger("netllm.steps")
PAGE, PLAYS = "/real/watch", "/real/plays.json"


@dataclass(eq=False)
class Watch:
    """Who plays, and who else did."""

    rivals: dict[str, Sessions] = field(default_factory=dict)
    """What happened to others in the same sessions, in the simulator or in reality."""
    who: str = ""
    """Who decides now."""
    port: int = 0
    """Where the page is served; a free one is taken first, and kept."""

    @property
    def headed(self) -> bool:
        """Whether there is a display that a browser can open a window on."""
        own = sys.platform in ("darwin", "win32")
        return own or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

    def routes(self, plays: Callable[[], Iterable[Play]]) -> list[Route]:
        """The page, and what it asks for."""

        async def page(request: Request) -> Response:
            name = "watch.html"
            return HTMLResponse(files("netllm.real").joinpath(name).read_text(encoding="utf-8"))

        async def shown(request: Request) -> Response:
            told = msgspec.json.encode([self.told(play) for play in plays()])
            headers = {"Cache-Control": "no-store"}
            return Response(told, media_type="application/json", headers=headers)

        return [Route(PAGE, page), Route(PLAYS, shown)]

    async def show(self, opened: Browser, where: str) -> None:
        """Open the page on the display, or tell once where it is."""
        first, self.port = not self.port, urlsplit(where).port or 0
        if self.headed:
            page = await opened.new_page()
            await page.goto(where + PAGE)
        elif first:
            logger.info("Watch the players at %s%s", where, PAGE)

    def told(self, play: Play) -> dict[str, Any]:
        """One play so far, and the QoE of others after as many chunks."""
        chunks, setting = pictured(play.log, play.setting), play.setting

        def qoe(some: Sequence[Chunk]) -> float | None:
            return figures(some[: len(chunks)], setting)["qoe"] if len(chunks) > 1 else None

        others = {
            who: qoe(sessions[play.session.id])
            for who, sessions in self.rivals.items()
            if play.session.id in sessions
        }
        return {
            "session": play.session.id,
            "player": play.player,
            "rates_mbps": [rate * 1e-3 for rate in setting.video.rates_kbps],
            "cap_s": setting.buffer_cap_s,
            "total": play.shown.video.chunks,
            "chunks": [chunk._asdict() for chunk in chunks],
            "by": [chunk.by for chunk in play.log.chunks],
            "qoe": {f"{self.who} (here)": qoe(chunks), **others},
        }
