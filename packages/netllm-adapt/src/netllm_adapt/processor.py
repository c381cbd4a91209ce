"""Which processor this is, by what the system says of it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")


class CpuFacts(NamedTuple):
    """The first processor of a machine."""

    name: str
    """As it calls itself; empty if nothing is known."""
    numbers: tuple[str, ...]
    """Its family and model: rented ones often hide the rest."""
    flags: frozenset[str]
    """What it can do, as Linux names it."""


def cpu_facts(cpuinfo: Path = CPUINFO) -> CpuFacts:
    """What a file of the form of Linux' `/proc/cpuinfo` tells; empty where there is none."""
    if not cpuinfo.is_file():
        return CpuFacts("", (), frozenset())
    facts: dict[str, str] = {}
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip().lower(), value.strip())
    flags = facts.get("flags") or facts.get("features") or ""
    numbers = tuple(
        f"{key.split()[-1]} {facts[key]}" for key in ("cpu family", "model") if key in facts
    )
    return CpuFacts(facts.get("model name", ""), numbers, frozenset(flags.split()))


def processor() -> str:
    """Its name, family and model; what Python knows where the system says nothing."""
    facts = cpu_facts()
    if not facts.name:
        return platform.processor() or platform.machine()
    return ", ".join([facts.name, *facts.numbers])
