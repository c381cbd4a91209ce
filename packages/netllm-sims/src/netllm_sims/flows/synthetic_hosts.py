"""Habits of generated hosts, and of generated days: what a flow shows beside its application."""

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np

TCP, UDP = 6, 17
_ACCESS_MS = (4.0, 9.0, 18.0, 45.0)
_DAYS_OF_A_VERSION = 10
_KEPT = 0.8
"""How much of a program's habits its next version keeps."""
_SHARPNESS = 0.5
"""Shape of the shares of applications: below 1, a host uses few of them much."""


@dataclass(frozen=True)
class Host:
    """What a host's system, browser, line and user do to all of its flows."""

    tcp_header_bytes: int
    """IP and TCP headers: 52 with timestamps, 40 without."""
    payload_bytes: int
    """Most payload of a packet, which tunnels and lines make smaller."""
    tunnel_bytes: int
    """What a tunnel adds to each packet; 0 without one."""
    rtt_ms: float
    """Round trip over its line to a near server."""
    hello_bytes: int
    """Its browser's first message of TLS."""
    request_bytes: float
    """Typical request: cookies and headers."""
    quic: float
    """Share of web and video that it asks for over UDP."""
    odd_ports: float
    """Share of its services that answer on other ports than the usual ones."""
    mix: dict[str, float]
    """How often it uses each application, relative to others'."""


@dataclass(frozen=True)
class Program:
    """How the program that a host has for one class of traffic differs from others'."""

    size: float
    """Factor of its messages."""
    pace: float
    """Factor of its pauses, or its user's."""
    style: float
    """Which of several ways it takes, in (0, 1)."""


@dataclass(frozen=True)
class Day:
    """What services do on a day: software is updated, and load changes."""

    reply: float
    """Factor of what servers send."""
    hello_bytes: int
    """What an update added to first messages of TLS."""
    server_ms: float
    """Time that servers take to answer."""


def host(rng: np.random.Generator, classes: list[str]) -> Host:
    """Draw a host; the same habits have not occurred before, as each draws numbers of its own."""
    tunnel = int(rng.choice([0, 0, 0, 0, 37, 57, 73]))
    header = int(rng.choice([40, 52, 52]))
    weights = rng.gamma(_SHARPNESS, size=len(classes))
    return Host(
        tcp_header_bytes=header,
        payload_bytes=int(rng.choice([1500, 1500, 1492, 1440, 1400])) - header - tunnel,
        tunnel_bytes=tunnel,
        rtt_ms=float(rng.choice(_ACCESS_MS) * rng.lognormal(0, 0.25)),
        hello_bytes=int(rng.choice([220, 517, 583, 1250])) + int(rng.integers(0, 24)),
        request_bytes=float(rng.lognormal(np.log(420), 0.35)),
        quic=float(rng.beta(0.6, 0.9)),
        odd_ports=float(rng.beta(0.5, 3.0)),
        mix=dict(zip(classes, (weights / weights.sum()).tolist(), strict=True)),
    )


def day(rng: np.random.Generator, number: int) -> Day:
    """Draw a day; what updates have added grows with the number of days."""
    return Day(
        reply=float(rng.lognormal(0, 0.12) * 1.01**number),
        hello_bytes=int(4 * (number // 4) + rng.integers(0, 8)),
        server_ms=float(rng.lognormal(np.log(12), 0.4)),
    )


def programs(rng: np.random.Generator, days: int) -> list[Program]:
    """Draw a host's program for one class of traffic on each day; every tenth day it is updated."""
    updates = int(rng.integers(_DAYS_OF_A_VERSION))
    habits, found = rng.normal(size=3), []
    for number in range(days):
        if number and (number + updates) % _DAYS_OF_A_VERSION == 0:
            habits = _KEPT * habits + np.sqrt(1 - _KEPT**2) * rng.normal(size=3)
        size, pace = np.exp([0.45, 0.8] * habits[:2]).tolist()
        found.append(Program(size, pace, _share(habits[2])))
    return found


def _share(deviate: float) -> float:
    """How many of all normal numbers lie below, which is uniform, kept within (0, 1)."""
    return min(max((1 + erf(deviate / sqrt(2))) / 2, 1e-9), 1 - 1e-9)
