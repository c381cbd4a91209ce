"""The server that decides for real players, in a process of its own."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from netllm.serve.run import address, listening, run_server, server_of
from netllm.serve.service import Service

if TYPE_CHECKING:
    import uvicorn

    from netllm.serve.limits import Limits
    from netllm.serve.seat import Seat


@contextmanager
def deciding(seat: Callable[[], Seat], limits: Limits) -> Iterator[str]:
    """The address of a server that decides, for as long as the block runs.

    Links are shaped in this process, many times a second. A model that decides beside them would
    wait for the interpreter at each of its hundreds of operations, and they for it.

    Args:
        seat: makes who decides; sent to the other process.
        limits: of the server.

    Raises:
        RuntimeError: if the process ends before it serves.
        Exception: what `seat` raises.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_decide, args=(seat, limits, there), name="netllm-decides")
    process.start()
    there.close()
    try:
        yield _told(here, process)
    finally:
        here.close()
        process.join()


def _told(process_end: Connection, process: multiprocessing.process.BaseProcess) -> str:
    """The address that the process tells, once it serves."""
    try:
        told: str | Exception = process_end.recv()
    except EOFError:
        process.join()
        raise RuntimeError(
            f"The process that decides has ended, with {process.exitcode}, before it served."
        ) from None
    if isinstance(told, Exception):
        raise told
    return told


def _decide(seat: Callable[[], Seat], limits: Limits, parent: Connection) -> None:
    """Tell the address, and serve until the other end is closed."""
    try:
        made = seat()
        listener = listening("127.0.0.1", 0)
    except Exception as error:
        parent.send(error)
        return
    with listener:
        # Its pages come from another port, and from this machine alone.
        server = server_of(Service({made.name: made}, limits), allow_origins=["*"])
        threading.Thread(target=_end_with, args=(parent, server), daemon=True).start()
        parent.send(address(listener))
        run_server(server, listener)


def _end_with(parent: Connection, server: uvicorn.Server) -> None:
    """Let the server end when the other end of the connection is closed, or its process is gone."""
    try:
        parent.recv()
    except (EOFError, OSError):
        server.should_exit = True
