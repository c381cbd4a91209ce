"""Scans: which ports of a server are open?"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from numpy.random import Generator

from netllm.flows.recording.hosts import Host

_OPEN = (22, 80, 443, 3306, 8080)
_PORTS = 10_000


class Scan:
    """A scan by opening connections, as `nmap -sT` does it; closed ports refuse."""

    pause_s = 25.0

    def __init__(self, folder: Path) -> None:
        pass

    def listen(self, address: str) -> Callable[[], None]:
        """Open some ports of an address; what is returned closes what connects to them."""
        listeners = [socket.create_server((address, port), backlog=128) for port in _OPEN]

        def serve() -> None:
            while True:
                for listener in select.select(listeners, [], [])[0]:
                    listener.accept()[0].close()

        return serve

    def use(self, host: Host, server: str, rng: Generator) -> None:
        """Try some ports: in a row or mixed, fast or slowly, as the host's scanner does."""
        count = int(rng.integers(8, 25))
        first = int(rng.integers(1, _PORTS))
        mixed = rng.choice(_PORTS, count, replace=False) + 1
        ports = mixed.tolist() if host.number % 2 else range(first, first + count)
        pace_s = 10 ** host.habits("scanner").uniform(-3, -0.7)
        for port in (*_OPEN, *ports):
            with socket.socket() as tried:
                tried.bind((host.address, 0))
                with suppress(ConnectionRefusedError):
                    tried.connect((server, port))
            time.sleep(rng.exponential(pace_s))
