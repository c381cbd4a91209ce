"""One session as one real player plays it: what its page is told, and what it tells."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from netllm.real.play_log import Log
from netllm.real.shaped_link import ShapedLink

if TYPE_CHECKING:
    from netllm_sims.abr import Session, Setting

    from netllm.real.presentation import Presentation


class Link(Protocol):
    """What the segments of a play pass through."""

    def pieces(self, content: bytes) -> AsyncIterator[bytes]:
        """The content, each piece when it may be sent."""


def user_space(play: Play) -> Link:
    """A connection whose speed follows the trace in this process; it begins now."""
    return ShapedLink(play.session, packet_share=play.setting.packet_share)


@dataclass(eq=False, kw_only=True)
class Play:
    """One session, as one player plays it."""

    session: Session
    setting: Setting
    shown: Presentation
    """Of the session's video."""
    player: str
    """Whose library its page loads: a name of `LIBRARIES`."""
    deadline_s: float
    server: str
    """Address of who decides."""
    id: str = field(default_factory=partial(secrets.token_urlsafe, 9))
    log: Log = field(default_factory=Log)
    """The latest that its player has told."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last chunk has arrived, or the player has failed."""
    begin: Callable[[Play], Link] = user_space
    """Called when the first segment is asked for."""
    link: Link | None = None
    """What `begin` has given."""
    origin: str = ""
    """Address that its segments come from; the one that its page comes from if empty."""

    @property
    def page(self) -> str:
        """Path of its page."""
        return f"/real/{self.id}/page.html"

    @property
    def base(self) -> str:
        """What comes before the paths of its segments."""
        return f"{self.origin}/real/{self.id}/" if self.origin else ""

    def options(self) -> dict[str, Any]:
        """What the page tells the player's adapter."""
        video = self.shown.video
        return {
            "server": self.server,
            "sizesMb": (video.sizes_bytes[: video.chunks] * 1e-6).tolist(),
            "ratesKbps": list(video.rates_kbps),
            "chunkS": video.chunk_s,
            "bufferS": self.setting.buffer_cap_s,
            "rebuffering": self.setting.rebuffering,
            "smoothness": self.setting.smoothness,
            "deadlineMs": self.deadline_s * 1e3,
        }

    def told(self, log: Log) -> None:
        """Take what its player tells; messages may overtake each other."""
        if self.ended.is_set() or len(log.chunks) < len(self.log.chunks):
            return
        self.log = log
        if log.over or log.error:
            self.ended.set()

    def fail(self, why: str) -> None:
        """End it, if it has not ended."""
        self.told(Log(self.log.chunks, error=why))

    async def connection(self) -> Link:
        """The connection, a round trip after something was asked for."""
        await asyncio.sleep(self.setting.rtt_s)
        if self.link is None:
            self.link = self.begin(self)
        return self.link
