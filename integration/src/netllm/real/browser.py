"""A headless Chromium that plays pages side by side."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = ("--autoplay-policy=no-user-gesture-required", "--disable-gpu", "--mute-audio")
_DIRECT = "--no-proxy-server"
"""Pages and videos come from this machine."""
_SMALL_SHM = "--disable-dev-shm-usage"
"""Containers often have little shared memory."""
PATIENCE_MS = 120_000
"""How long a browser may take to start, or to open a page, on a busy machine."""
_NEVER_SLOWER = ("--disable-background-timer-throttling", "--disable-renderer-backgrounding")


def program() -> str:
    """Where Chromium is.

    Raises:
        FileNotFoundError: if it is not installed.
    """
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise FileNotFoundError(
            "Real players need Chromium, which is not installed: apt-get install chromium (or "
            "your system's way)."
        )
    return found


@asynccontextmanager
async def browser(*, headless: bool = True) -> AsyncIterator[Browser]:
    """A running browser.

    Raises:
        FileNotFoundError: if Chromium is not installed.
        RuntimeError: if it cannot be started.
    """
    from playwright.async_api import Error, async_playwright

    where = program()
    options = [*_OPTIONS, *_NEVER_SLOWER, _SMALL_SHM, _DIRECT]
    if os.geteuid() == 0:  # its sandbox does not work for root
        options.append("--no-sandbox")
    async with async_playwright() as playwright:
        try:
            opened = await playwright.chromium.launch(
                executable_path=where, args=options, headless=headless, timeout=PATIENCE_MS
            )
        except Error as error:
            raise RuntimeError(f"{where} cannot be started: {error.message[:500]}") from error
        try:
            yield opened
        finally:
            await opened.close()
