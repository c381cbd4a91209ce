"""Captures of packets, read by dpkt."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from netllm_sims.files import reading
from netllm_sims.flows.limits import LARGEST_GAP_MS
from netllm_sims.flows.table import Flows, padded

IDLE_S = 60.0
"""A longer pause ends a flow."""
_PCAPNG = b"\x0a\x0d\x0d\x0a"
KEPT_PACKETS = 100
"""First packets that are written of a flow."""
_ETHERNET, _RAW, _LOOPBACK, _COOKED = 1, (12, 14, 101, 228, 229), 0, (113, 276)
_LINKS = f"Ethernet ({_ETHERNET}), raw IP (101), loopback ({_LOOPBACK}) or Linux cooked (113, 276)"


class Packet(NamedTuple):
    """What is used of a packet."""

    time_s: float
    source: tuple[str, int]
    target: tuple[str, int]
    protocol: int
    size_bytes: int
    opens: bool
    """Whether it asks TCP for a new connection."""


def flows(path: Path) -> tuple[Flows, int]:
    """The flows of a capture, and how many packets belong to none: they are no TCP or UDP over IP.

    The class is the file's name up to the first `-` or `.`. The host is the address that sends the
    first packet, the day the date of that packet in UTC, a size that of IP. A flow ends after
    `IDLE_S` without a packet, and where TCP opens a connection anew.

    Raises:
        ValueError: The file is no capture, breaks off, or is of another link; or packets that are
            not in order of time.
        ModuleNotFoundError: dpkt is missing.

    Source: draft-ietf-opsawg-pcap and -pcapng; flows as RFC 7011 has them, in both directions.
    """
    known: dict[tuple[Any, ...], list[Packet]] = {}
    done: list[list[Packet]] = []
    left_out = 0
    with reading.regular(path) as file:
        for packet in _packets(path, file):
            if packet is None:
                left_out += 1
                continue
            key = (packet.protocol, *sorted((packet.source, packet.target)))
            flow = known.get(key)
            if flow and packet.time_s < flow[-1].time_s - 1:
                raise ValueError(
                    f"{path}: packets must come in the order of their times, got one of "
                    f"{packet.time_s:.6f} s after {flow[-1].time_s:.6f} s. Sort it: reordercap."
                )
            if flow is None or _ended(flow, packet):
                known[key] = flow = []
                done.append(flow)
            if len(flow) <= KEPT_PACKETS:
                flow.append(packet)
            else:
                flow[-1] = packet  # which keeps the time of the last one
    return _table(path, done), left_out


def _ended(flow: list[Packet], packet: Packet) -> bool:
    if packet.time_s - flow[-1].time_s > IDLE_S:
        return True
    return packet.opens and len(flow) > 1 and not flow[-1].opens


def _table(path: Path, done: list[list[Packet]]) -> Flows:
    sizes, gaps = [], []
    for flow in done:
        first, some = flow[0].source, flow[:KEPT_PACKETS]
        sizes.append([one.size_bytes * (1 if one.source == first else -1) for one in some])
        times_ms = np.array([one.time_s for one in some]) * 1e3
        gaps.append(np.diff(times_ms, prepend=times_ms[0]).clip(0, LARGEST_GAP_MS).tolist())
    days = [datetime.fromtimestamp(flow[0].time_s, UTC).date().isoformat() for flow in done]
    return Flows(
        host=np.array([flow[0].source[0] for flow in done], dtype=str),
        day=np.array(days, dtype=str),
        label=np.full(len(done), path.name.split(".")[0].split("-")[0] or "unnamed"),
        protocol=np.array([flow[0].protocol for flow in done], np.int64),
        server_port=np.array([flow[0].target[1] for flow in done], np.int64),
        sizes_bytes=padded(sizes, KEPT_PACKETS),
        gaps_ms=padded(gaps, KEPT_PACKETS),
        statistics=np.zeros((len(done), 0)),
    )


def _packets(path: Path, file: BinaryIO) -> Iterator[Packet | None]:
    dpkt = dpkt_module()
    whole = _Whole(path, file)
    start = whole.read(4)
    whole.seek(0)
    if start != _PCAPNG and int.from_bytes(start, "big") not in dpkt.pcap.MAGIC_TO_PKT_HDR:
        raise ValueError(
            f"{path}: must be a capture in pcap or pcapng, got a file that begins with "
            f"{start.hex(' ')}. Unpack it, or save it as one of these."
        )
    try:
        reader = (dpkt.pcapng if start == _PCAPNG else dpkt.pcap).Reader(whole)
    except Broken:
        raise
    except (dpkt.Error, ValueError) as fault:
        raise Broken(path, f"its header cannot be read: {fault}") from None
    link = reader.datalink()
    if link not in (_ETHERNET, *_RAW, _LOOPBACK, *_COOKED):
        raise ValueError(
            f"{path}: the capture's link type must be {_LINKS}, got {link}. Capture at another "
            "interface, or convert it with editcap -T."
        )
    try:
        for time_s, content in reader:
            if not content:
                raise Broken(path, "a packet's content is missing")
            yield _packet(dpkt, link, float(time_s), bytes(content))
    except Broken:
        raise
    except (dpkt.Error, ValueError) as fault:
        raise Broken(path, f"a block cannot be read: {fault}") from None


def _packet(dpkt: ModuleType, link: int, time_s: float, content: bytes) -> Packet | None:
    """The packet; None if it is none of TCP or UDP over IP, or its headers are cut off."""
    kinds = {_ETHERNET: dpkt.ethernet.Ethernet, _LOOPBACK: dpkt.loopback.Loopback}
    kinds |= dict(zip(_COOKED, (dpkt.sll.SLL, dpkt.sll2.SLL2), strict=True))
    try:
        if link in _RAW:
            version = content[0] >> 4 if content else 0
            ip: Any = (dpkt.ip6.IP6 if version == 6 else dpkt.ip.IP)(content)
        else:
            ip = kinds[link](content).data
    except (dpkt.Error, IndexError, ValueError):
        return None
    segment = getattr(ip, "data", None)
    if not isinstance(segment, dpkt.tcp.TCP | dpkt.udp.UDP):
        return None
    tcp = isinstance(segment, dpkt.tcp.TCP)
    six = isinstance(ip, dpkt.ip6.IP6)
    name = dpkt.utils.inet_to_str
    return Packet(
        time_s,
        (name(ip.src), segment.sport),
        (name(ip.dst), segment.dport),
        6 if tcp else 17,
        ip.plen + 40 if six else max(ip.len, 20),
        tcp and segment.flags & 0x12 == 0x02,
    )


class Broken(ValueError):
    """A capture that breaks off."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path}: the capture breaks off: {what}. Fetch it again, or repair it with pcapfix."
        )


class _Whole:
    """A file of which everything that is asked for must be there, but for a new record's start."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.name = str(path)
        self._path, self._file, self._size = path, file, path.stat().st_size
        if self._size > reading.most_bytes():
            raise reading.too_large(path, reading.most_bytes(), f"{self._size:,} bytes")

    def read(self, count: int) -> bytes:
        """So many bytes, or none at the end of the file."""
        at = self._file.tell()
        if at < self._size and not 0 <= count <= self._size - at:
            what = f"{count:,} bytes must follow at byte {at:,}, got {self._size - at:,}"
            raise Broken(self._path, what)
        return self._file.read(count) if at < self._size else b""

    def seek(self, place: int) -> int:
        """Go to a byte."""
        return self._file.seek(place)


def dpkt_module() -> ModuleType:
    """The library that reads captures.

    Raises:
        ModuleNotFoundError: It is not installed; says how to do it.
    """
    try:
        import dpkt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Captures are read by dpkt, which is not installed. In a clone: python -m pip install "
            '"./packages/netllm-sims[pcap]"',
            name="dpkt",
        ) from error
    module: ModuleType = dpkt
    return module
