"""Traffic of generated hosts, day after day."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from netllm_sims.flows import synthetic_hosts
from netllm_sims.flows.synthetic_applications import ATTACKS, BENIGN, LAWS, ODD_PORTS
from netllm_sims.flows.synthetic_hosts import TCP, UDP, Day, Host, Program
from netllm_sims.flows.synthetic_talk import Talk
from netllm_sims.flows.table import Flows, padded

_HOST, _DAY, _PROGRAM, _FLOW = range(4)
"""Streams of random numbers: what one draws does not move another."""


@lru_cache(maxsize=8)
def traffic(
    *,
    hosts: int,
    days: int,
    flows: float,
    packets: int,
    classes: tuple[str, ...] = (*BENIGN, *ATTACKS),
    seed: int = 0,
) -> Flows:
    """Flows of some hosts on some days; the same arguments give the same flows.

    Further hosts, days or classes leave the others' flows as they are.

    Args:
        hosts: Number of hosts, each with habits of its own.
        days: Number of days; software is updated and load changes from one to the next.
        flows: Mean number of flows of a host on a day.
        packets: First packets that are kept of each flow.
        classes: Names of `synthetic_applications.LAWS`.
        seed: Of everything random.
    """
    names, digits = sorted(LAWS), max(2, len(str(days - 1)))  # so that days sort by time
    every_day = [synthetic_hosts.day(_rng(seed, _DAY, d), d) for d in range(days)]
    talks: list[Talk] = []
    places: list[tuple[str, str, str]] = []
    for h in range(hosts):
        own = synthetic_hosts.host(_rng(seed, _HOST, h), names)
        own_programs = {
            name: synthetic_hosts.programs(_rng(seed, _PROGRAM, h, names.index(name)), days)
            for name in classes
        }
        for d, day in enumerate(every_day):
            for name in classes:
                program = own_programs[name][d]
                rng = _rng(seed, _FLOW, h, d, names.index(name))
                for _ in range(rng.poisson(flows * own.mix[name])):
                    talk = _opened(name, rng, own, day, program, packets)
                    LAWS[name](talk)
                    talks.append(talk)
                    places.append((f"host{h:03d}", f"day{d:0{digits}d}", name))
    return _table(talks, places, packets)


def _table(talks: Sequence[Talk], places: Sequence[tuple[str, str, str]], packets: int) -> Flows:
    host, day, label = np.array(places, dtype=str).reshape(-1, 3).T
    return Flows(
        host=host,
        day=day,
        label=label,
        protocol=np.array([talk.protocol for talk in talks], np.int64),
        server_port=np.array([talk.port for talk in talks], np.int64),
        sizes_bytes=padded([talk.sizes_bytes for talk in talks], packets),
        gaps_ms=padded([talk.gaps_ms for talk in talks], packets),
        statistics=np.zeros((len(talks), 0)),
    )


def _opened(
    name: str, rng: np.random.Generator, host: Host, day: Day, program: Program, packets: int
) -> Talk:
    protocol, port = _address(name, rng, host, program)
    return Talk(rng, host, day, program, packets, protocol, port)


def _address(name: str, rng: np.random.Generator, host: Host, program: Program) -> tuple[int, int]:
    """Protocol and server's port of a new flow."""
    some = int(rng.integers(1_024, 65_536))
    if name == "scan":
        return TCP, int(rng.integers(1, 10_000))
    if name in ("voip", "game"):
        return UDP, some
    if name == "flood":
        return (UDP, some) if program.style < 0.4 else (TCP, 443 if program.style < 0.8 else 80)
    odd = rng.random() < host.odd_ports
    if name == "dns" and odd:
        return TCP, int(rng.choice([443, 853]))
    usual = {"ssh": 22, "bruteforce": 22, "dns": 53}.get(name, 443)
    over_udp = name == "dns" or (name in ("web", "video") and rng.random() < host.quic)
    port = int(rng.choice(ODD_PORTS[usual])) if odd else usual
    return (UDP if over_udp else TCP), port


def _rng(*stream: int) -> np.random.Generator:
    return np.random.default_rng(stream)
