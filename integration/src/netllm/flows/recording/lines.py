"""The loopback device as hosts see it: packets of Ethernet's size, and a line for each host."""

from __future__ import annotations

from contextlib import suppress

from netllm.flows.recording.hosts import HOSTS, Host
from netllm.flows.recording.machine import found, path_of, run

_QUEUE_PACKETS = 100
_QUANTUM = 60_000
"""Bytes that a line sends in its turn; the kernel wants 1,000 to 200,000."""
_COMMON = "ff"
"""Number of the line of what is no host's."""


def bring_up() -> None:
    """Let packets pass, of at most 1,500 bytes, as they are sent: the kernel joins none.

    Raises:
        RuntimeError: `ip` refuses.
    """
    run([path_of("ip"), "link", "set", "lo", "up", "mtu", "1500", "gso_max_segs", "1"])


def limit() -> list[str]:
    """Give each host a line with its rate and delay; what the kernel or a missing `tc` denies."""
    if found("tc") is None:
        return ["rates and delays of lines, for which `tc` is missing"]
    rates = [
        f"qdisc add dev lo root handle 1: htb default {_COMMON}",
        f"class add dev lo parent 1: classid 1:{_COMMON} htb rate 10gbit quantum {_QUANTUM}",
        *map(_rate, HOSTS),
    ]
    try:
        _tc("\n".join(rates))
    except RuntimeError:
        with suppress(RuntimeError):
            _tc("qdisc del dev lo root")
        return ["rates and delays of lines, for which the kernel lacks sch_htb or cls_u32"]
    try:
        _tc("\n".join(map(_delay, HOSTS)))
    except RuntimeError:
        return ["delays of lines, for which the kernel lacks sch_netem"]
    return []


def _rate(host: Host) -> str:
    """The commands that give a host's packets, in both directions, a rate."""
    line = f"1:{host.number + 1:x}"
    rate = f"rate {round(host.rate_mbps * 1e6)}bit quantum {_QUANTUM}"
    match = f"filter add dev lo parent 1: protocol ip prio 1 u32 match ip {{}} {host.address}/32"
    return "\n".join(
        [
            f"class add dev lo parent 1: classid {line} htb {rate}",
            f"qdisc add dev lo parent {line} handle {host.number + 16:x}: pfifo limit "
            f"{_QUEUE_PACKETS}",
            *(f"{match.format(end)} flowid {line}" for end in ("src", "dst")),
        ]
    )


def _delay(host: Host) -> str:
    """The command that makes a host's packets wait in place of its queue."""
    line = f"parent 1:{host.number + 1:x} handle {host.number + 64:x}:"
    return f"qdisc replace dev lo {line} netem delay {host.delay_ms}ms limit {_QUEUE_PACKETS * 4}"


def _tc(commands: str) -> None:
    run([path_of("tc"), "-batch", "-"], given=f"{commands}\n")
