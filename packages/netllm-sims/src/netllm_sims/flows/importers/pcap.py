"""Captures of packets, read by dpkt."""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from netllm_sims.files import reading
from netllm_sims.flows.limits import LARGEST_GAP_MS, LARGEST_SIZE_BYTES
from netllm_sims.flows.table import Flows, padded

IDLE_S = 60.0
"""A longer pause ends a flow."""
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_LITTLE_ENDIAN = b"\x4d\x3c\x2b\x1a"
_INTERFACE, _SIMPLE_PACKET = 1, 3
"""Types of blocks of pcapng."""
_RESOLUTION, _OFFSET = 9, 14
"""Options of an interface that say what its times mean."""
_LATEST_S = 253_402_300_800.0
"""The end of the year 9999."""
_LONGEST_RECORD_BYTES = 1 << 28
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
    opening: int | None
    """The first sequence number, if it asks TCP for a new connection."""


def flows(path: Path) -> tuple[Flows, int]:
    """The flows of a capture, and how many packets belong to none: they are no TCP or UDP over IP.

    The class is the file's name up to the first `-` or `.`. The host is the address that sends the
    first packet, the day the date of that packet in UTC, a size that of IP, at most
    `LARGEST_SIZE_BYTES`. A flow ends after `IDLE_S` without a packet, and where TCP opens a
    connection anew, with another first sequence number: else the opening is repeated.

    Args:
        path: The capture, perhaps packed by gzip, bzip2 or xz.

    Raises:
        ValueError: The file is no capture, breaks off, or is of another link or of several kinds of
            interfaces; or packets without times or not in their order.
        ModuleNotFoundError: dpkt is missing.

    Source: draft-ietf-opsawg-pcap and -pcapng; flows as RFC 7011 has them, in both directions.
    """
    known: dict[tuple[Any, ...], list[Packet]] = {}
    done: list[list[Packet]] = []
    left_out = 0
    with reading.opened(path) as file:
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
    if packet.opening is None or len(flow) == 1 or flow[-1].opening is not None:
        return False
    return packet.opening != flow[0].opening


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
    start = whole.start
    if start != _PCAPNG and int.from_bytes(start, "big") not in dpkt.pcap.MAGIC_TO_PKT_HDR:
        got = f"a file that begins with {start.hex(' ')}" if start else "an empty file"
        raise ValueError(
            f"{path}: must be a capture in pcap or pcapng, got {got}. Unpack it, or save it as one "
            "of these."
        )
    faults = (dpkt.Error, struct.error, ValueError)
    try:
        interfaces = set(_interfaces(path, dpkt)) if start == _PCAPNG else set()
        reader = (dpkt.pcapng if start == _PCAPNG else dpkt.pcap).Reader(whole)
    except Broken:
        raise
    except faults as fault:
        raise Broken(path, f"its header cannot be read: {fault}") from None
    link = reader.datalink()
    _check(path, link, interfaces)
    try:
        for time_s, content in reader:
            if not content:
                raise Broken(path, "a packet's content is missing")
            if not 0 <= time_s < _LATEST_S:
                raise Broken(path, f"a packet came {float(time_s):g} s after 1970")
            yield _packet(dpkt, link, float(time_s), bytes(content))
    except Broken:
        raise
    except faults as fault:
        raise Broken(path, f"a block cannot be read: {fault}") from None


def _interfaces(path: Path, dpkt: ModuleType) -> Iterator[tuple[Any, ...]]:
    """Link type and meaning of times of each interface of a pcapng; nothing of one without times.

    dpkt takes all packets for those of the first interface, and leaves packets without times out.
    """
    with reading.opened(path) as file:
        whole = _Whole(path, file)
        first = whole.read(12)
        little = first[8:] == _LITTLE_ENDIAN
        head = struct.Struct("<II" if little else ">II")
        kind = dpkt.pcapng.InterfaceDescriptionBlock
        kind = dpkt.pcapng.InterfaceDescriptionBlockLE if little else kind
        whole.read(head.unpack(first[:8])[1] - len(first))
        while start := whole.read(head.size):
            of, length = head.unpack(start)
            block = start + whole.read(length - head.size)
            if of == _SIMPLE_PACKET:
                yield ()
            elif of == _INTERFACE:
                one = kind(block)
                times = [(o.code, o.data) for o in one.opts if o.code in (_RESOLUTION, _OFFSET)]
                yield (one.linktype, *times)


def _check(path: Path, link: int, interfaces: set[tuple[Any, ...]]) -> None:
    """Raise unless packets can be read: of a link that is known, and all alike."""
    if link not in (_ETHERNET, *_RAW, _LOOPBACK, *_COOKED):
        raise ValueError(
            f"{path}: the capture's link type must be {_LINKS}, got {link}. Capture at another "
            "interface, or convert it with editcap -T."
        )
    if () in interfaces:
        raise ValueError(
            f"{path}: all packets must have times, got simple packet blocks, which have none. "
            "Capture it again, with times."
        )
    if len(interfaces) > 1:
        links = ", ".join(str(one[0]) for one in sorted(interfaces, key=str))
        raise ValueError(
            f"{path}: all interfaces must have the same link type and unit of time, got "
            f"{len(interfaces)} kinds (link types {links}). Write a file for each: tshark -r "
            f"{path.name} -Y frame.interface_id==0 -w FILE."
        )


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
    except (dpkt.Error, AttributeError, IndexError, ValueError):
        return None  # dpkt takes any first header of IPv6 for the fragment's, whence AttributeError
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
        _size_bytes(ip, six),
        segment.seq if tcp and segment.flags & 0x12 == 0x02 else None,
    )


def _size_bytes(ip: Any, six: bool) -> int:
    """What the header of IP says; 0 there, as a card that cuts packets is told, is all there is."""
    told = (ip.plen + 40 if ip.plen else 0) if six else ip.len
    return min(max(told or len(ip), 20), int(LARGEST_SIZE_BYTES))


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
        self.start = file.read(4)
        self._path, self._file = path, file
        self._at, self._again = 0, self.start

    def read(self, count: int) -> bytes:
        """So many bytes, or none at the end of the file."""
        what = f"{count:,} bytes must follow at byte {self._at:,}"
        if not 0 <= count < _LONGEST_RECORD_BYTES:
            raise Broken(self._path, f"{what}, which no record has")
        again, self._again = self._again[:count], self._again[count:]
        content = again + self._file.read(count - len(again))
        if content and len(content) < count:
            raise Broken(self._path, f"{what}, got {len(content):,}")
        self._at += len(content)
        return content


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
