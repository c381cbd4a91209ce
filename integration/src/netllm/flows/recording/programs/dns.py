"""DNS: a resolver's questions over UDP, and a server that answers them."""

from __future__ import annotations

import hashlib
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from numpy.random import Generator

from netllm.flows.recording.hosts import Host

_PORT = 53
_A, _AAAA, _HTTPS, _OPT, _IN = 1, 28, 65, 41, 1
_ASKS, _ANSWERS = 0x0100, 0x8180
"""Flags: recursion is desired; an answer without an error, recursion is available."""
_HEADER = struct.Struct(">6H")
_EDNS = b"\0" + struct.pack(">HHIH", _OPT, 1232, 0, 0)
"""Says which answers can be read: up to 1,232 bytes (RFC 6891)."""
_PATIENCE_S, _TRIES = 2.0, 15
_NAMES = 400


class DNS:
    """Questions about addresses, as programs ask before they connect.

    Source: the format of RFC 1035, section 4; EDNS of RFC 6891; type HTTPS of RFC 9460.
    """

    pause_s = 3.0

    def __init__(self, folder: Path) -> None:
        pass

    def listen(self, address: str) -> Callable[[], None]:
        """Listen at an address; what is returned answers for ever."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind((address, _PORT))

        def serve() -> None:
            while True:
                asked, client = listener.recvfrom(512)
                listener.sendto(answer(asked), client)

        return serve

    def use(self, host: Host, server: str, rng: Generator) -> None:
        """Ask for the addresses of a name, and on some hosts for its services too."""
        kinds = [_A, _AAAA] + [_HTTPS] * (host.number % 3 == 0)
        name = _name(int(rng.zipf(1.3)) % _NAMES)
        numbers = rng.choice(1 << 16, len(kinds), replace=False).tolist()
        edns = host.number % 2 == 0
        unanswered = {
            number: question(number, name, kind, edns=edns)
            for number, kind in zip(numbers, kinds, strict=True)
        }
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.bind((host.address, 0))
            asking.connect((server, _PORT))
            asking.settimeout(_PATIENCE_S)
            for _ in range(_TRIES):
                for asked in unanswered.values():
                    asking.send(asked)
                with suppress(TimeoutError):  # one was lost on the line: those are asked again
                    while unanswered:
                        number, flags, *_ = _HEADER.unpack_from(asking.recv(1232))
                        if flags != _ANSWERS:
                            raise RuntimeError(f"The server must answer, got flags {flags:#06x}.")
                        unanswered.pop(number, None)
                if not unanswered:
                    return
        raise RuntimeError(f"The server must answer within {_TRIES} tries.")


def question(number: int, name: str, kind: int, *, edns: bool) -> bytes:
    """The message that asks for records of a kind."""
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split("."))
    header = _HEADER.pack(number, _ASKS, 1, 0, 0, int(edns))
    return header + labels + struct.pack(">BHH", 0, kind, _IN) + _EDNS * edns


def answer(asked: bytes) -> bytes:
    """The message that answers a question: up to six records, whose number depends on the name."""
    number, *_, additional = _HEADER.unpack_from(asked)
    end = asked.index(b"\0", _HEADER.size) + 5
    (kind,) = struct.unpack_from(">H", asked, end - 4)
    digest = hashlib.sha256(asked[_HEADER.size : end]).digest()
    data = {_A: digest[:4], _AAAA: digest[:16], _HTTPS: b"\0\1\0\0\1\0\6\2h2\2h3"}[kind]
    records = digest[-1] % (2 if kind == _HTTPS else 7)
    # Each names the question's name by a pointer to it.
    record = struct.pack(">HHHIH", 0xC000 + _HEADER.size, kind, _IN, 300, len(data)) + data
    header = _HEADER.pack(number, _ANSWERS, 1, records, 0, additional)
    return header + asked[_HEADER.size : end] + record * records + _EDNS * additional


def _name(number: int) -> str:
    word = hashlib.sha256(str(number).encode()).hexdigest()
    return (
        f"{('www', 'api', 'cdn-' + word[:6], 'static')[number % 4]}.{word[: 3 + number % 17]}.test"
    )
