"""Packets of the loopback device, from the kernel's ring into a capture for each class."""

from __future__ import annotations

import mmap
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from netllm.flows.recording.hosts import class_of

_DEVICE = "lo"
KEPT_PACKETS = 100
"""First packets of a flow in each direction that are written: as many as are read again."""
_SOL_PACKET, _STATISTICS, _RING, _VERSION, _IGNORE_OUTGOING = 263, 6, 5, 10, 23
"""Numbers of Linux's `if_packet.h`, which Python does not name."""
_VERSION_2 = 1
_IPV4 = 0x0800
_FRAME_BYTES, _BLOCK_BYTES, _BLOCKS = 256, 1 << 16, 1024
"""The ring: 262,144 packets, of each the headers."""
_RING_BYTES = _BLOCKS * _BLOCK_BYTES
_HEADER = struct.Struct("=IIIHHII")
"""`tpacket2_hdr`: status, length, captured, place of the frame, of IP, seconds, nanoseconds."""
_OURS, _KERNELS = 1, struct.pack("=I", 0)
_PCAP = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 16, 1)
"""The start of a capture with nanoseconds, of Ethernet, as loopback frames look."""
_RECORD = struct.Struct("=IIII")
_TCP, _SYN = 6, 2


class Counts(NamedTuple):
    """How many packets there were."""

    others: int
    """Belonged to no class."""
    lost: int
    """Came while the ring was full."""


class Ring:
    """What passes the loopback device from now on.

    A packet passes it twice, as it is sent and as it is received; the kernel is to show the latter
    only. It writes them into a ring in shared memory: a socket's own buffer would need rights
    outside the namespace to hold as many.

    Source: `packet_mmap` of Linux's documentation, version 2 of the ring.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        self._socket.setsockopt(_SOL_PACKET, _VERSION, _VERSION_2)
        shape = struct.pack(
            "=IIII", _BLOCK_BYTES, _BLOCKS, _FRAME_BYTES, _RING_BYTES // _FRAME_BYTES
        )
        self._socket.setsockopt(_SOL_PACKET, _RING, shape)
        self._memory = mmap.mmap(self._socket.fileno(), _RING_BYTES)
        self._socket.bind((_DEVICE, _IPV4))

    def packets(self, until_s: float) -> Iterator[tuple[bytes, bytes]]:
        """Packets until a time, in the order in which they came: a capture's record, the frame."""
        at = 0
        while True:
            head = _HEADER.unpack_from(self._memory, at)
            status, length, captured, begin, _, at_s, at_ns = head
            if not status & _OURS:
                left_s = until_s - time.time()
                if left_s <= 0:
                    return
                select.select([self._socket], [], [], min(left_s, 0.1))
                continue
            if at_s + at_ns * 1e-9 > until_s:
                return
            frame = self._memory[at + begin : at + begin + captured]
            self._memory[at : at + 4] = _KERNELS
            at = (at + _FRAME_BYTES) % _RING_BYTES
            yield _RECORD.pack(at_s, at_ns, captured, length), frame

    def lost(self) -> int:
        """How many packets found the ring full."""
        told = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8)
        return int(struct.unpack("=II", told)[1])


def record(ring: Ring, folder: Path, classes: Sequence[str], until_s: float) -> Counts:
    """Write `CLASS.pcap` for each class, with the first packets of each of its flows."""
    with ExitStack() as stack:
        files = {
            name: stack.enter_context((folder / f"{name}.pcap").open("wb")) for name in classes
        }
        for file in files.values():
            file.write(_PCAP)
        seen: dict[bytes, int] = {}
        others = 0
        for head, frame in ring.packets(until_s):
            # Protocol, addresses and ports: headers of IP have no options here.
            ends = frame[23:24] + frame[26:38]
            count = 0 if _opens(frame) else seen.get(ends, 0)
            seen[ends] = count + 1
            if count >= KEPT_PACKETS:
                continue
            file_of = files.get(class_of(frame[26:30], frame[30:34]) or "")
            if file_of is None:
                others += 1
            else:
                file_of.write(head)
                file_of.write(frame)
    return Counts(others, ring.lost())


def _opens(frame: bytes) -> bool:
    """Whether it asks TCP for a new connection, or agrees to one."""
    return frame[23] == _TCP and bool(frame[47] & _SYN)
