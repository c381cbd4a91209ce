"""Who may ask, and how large and slow a request may be."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import ClientDisconnect, Request

from netllm.serve.limits import Limits
from netllm.serve.service import Refused

OPEN = frozenset({"/health", "/ready"})
"""What is told to anybody: orchestrators that probe have no token."""
PLAYERS = "/players/"
"""Scripts for web players, which are open too: a page cannot name a token where it includes one."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class TokenRequired:
    """An application whose requests must carry a token; others get 401.

    Args:
        app: the application.
        token: what `Authorization: Bearer` must be followed by.
        refuse: the answer to others.
    """

    def __init__(self, app: App, *, token: str, refuse: Callable[[], App]) -> None:
        self._app, self._refuse = app, refuse
        self._wanted = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and not _is_open(scope["path"]):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._wanted):
                await self._refuse()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(PLAYERS)


def check_origin(request: Request, allowed: Sequence[str]) -> None:
    """Raise unless a page may send this request.

    Browsers ask beforehand whether a page may send JSON, but not whether it may send text.

    Raises:
        Refused: if the page is of another origin than this server's and those allowed.
    """
    origin = request.headers.get("origin")
    own = urlsplit(origin or "").netloc == request.headers.get("host")
    if origin is None or own or origin in allowed or "*" in allowed:
        return
    raise Refused(
        403, f"Pages of {origin:.200} may not ask. Serve with --allow-origin to let some."
    )


async def body(request: Request, limits: Limits, *, any_type: bool = False) -> bytes:
    """The body of a request of JSON.

    Args:
        request: what came.
        limits: how large it may be, and how long it may take.
        any_type: whether it need not be called JSON.

    Raises:
        Refused: if it is not called JSON, is too large, takes too long or ends before its end.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not any_type and kind != "application/json":
        raise Refused(415, f"The content type must be application/json, got {kind!r:.100}.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.body_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.body_s):
            return await _read(request, limits)
    except TimeoutError:
        raise Refused(408, f"The body must arrive within {limits.body_s:g} s.") from None
    except ClientDisconnect:
        raise Refused(400, "The body ended before its end.") from None


async def _read(request: Request, limits: Limits) -> bytes:
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limits.body_bytes:
            raise _too_large(limits)
        pieces.append(piece)
    return b"".join(pieces)


def _too_large(limits: Limits) -> Refused:
    return Refused(
        413, f"A body may have {limits.body_bytes:,} bytes at most. Ask for less at once."
    )


def decoded(decoder: msgspec.json.Decoder[Any], content: bytes) -> Any:
    """The body of a request.

    Raises:
        Refused: if it is no JSON, or a field is not what it must be.
    """
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise Refused(422, str(error).replace("`$.", "`")) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(400, f"The body must be JSON: {error}.") from error
