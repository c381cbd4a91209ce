"""Addresses on loopback: who plays a host, and which server is of which class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netllm.flows.recording.known_programs import PROGRAMS

COUNT = 25
"""Hosts, of which five test and five validate."""
SERVERS = 3
"""Servers of each class."""
_SEED = 0
_FIRST = 10
"""Number of the first host in its network."""


@dataclass(frozen=True)
class Host:
    """One address that uses every program, over a line and with habits of its own."""

    number: int

    @property
    def address(self) -> str:
        """Its address, in 127.0.0.0/24."""
        return f"127.0.0.{_FIRST + self.number}"

    @property
    def rate_mbps(self) -> float:
        """Speed of its line, in Mbit/s, for both directions together."""
        return round(min(max(self.habits("line").lognormal(2.5, 0.6), 4), 50), 1)

    @property
    def delay_ms(self) -> float:
        """Delay of its line in one direction, in ms."""
        return round(self.habits("delay").uniform(1, 25), 1)

    def habits(self, of: str) -> np.random.Generator:
        """The same random numbers for the same thing, whenever they are asked for."""
        return np.random.default_rng([_SEED, self.number, *of.encode()])


HOSTS = [Host(number) for number in range(COUNT)]
_NETWORKS = {name: number for number, name in enumerate(PROGRAMS, start=1)}
_CLASSES = {number: name for name, number in _NETWORKS.items()}


def servers(name: str) -> list[str]:
    """Addresses of the servers of a class: each class has a network of its own."""
    return [f"127.0.{_NETWORKS[name]}.{number}" for number in range(1, SERVERS + 1)]


def class_of(source: bytes, target: bytes) -> str | None:
    """The class of a packet by its addresses; None if it is not between a host and a server."""
    host, server = sorted((source, target))
    known = host[:3] == b"\x7f\0\0" and 0 <= host[3] - _FIRST < COUNT
    return _CLASSES.get(server[2]) if known and server[:2] == b"\x7f\0" else None
