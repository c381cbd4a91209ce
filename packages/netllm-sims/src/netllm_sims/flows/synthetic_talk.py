"""The packets of one generated flow, as its client would capture them."""

from dataclasses import dataclass, field

import numpy as np

from netllm_sims.flows.synthetic_hosts import TCP, UDP, Day, Host, Program

_UDP_HEADER_BYTES, _BARE_TCP_BYTES = 28, 40
_LINE_MS_PER_KB = 0.08
_JITTER = 0.15


@dataclass(eq=False)
class Talk:
    """Messages of both sides, cut into packets; of TCP with its handshake and acknowledgements.

    Source: ours, after RFC 9293 (handshake, an acknowledgement for every second packet) and RFC
    9000 (QUIC's first packet is at least 1,200 bytes).
    """

    rng: np.random.Generator
    host: Host
    day: Day
    program: Program
    most_packets: int
    protocol: int = TCP
    port: int = 443
    sizes_bytes: list[float] = field(default_factory=list)
    gaps_ms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rtt_ms = self.host.rtt_ms + float(self.rng.lognormal(np.log(12), 0.8))
        header = self.host.tcp_header_bytes if self.protocol == TCP else _UDP_HEADER_BYTES
        self._header_bytes = header + self.host.tunnel_bytes

    @property
    def full(self) -> bool:
        """Whether no further packet would be kept."""
        return len(self.sizes_bytes) >= self.most_packets

    def about(self, value: float, spread: float) -> float:
        """A number whose logarithm is normal about that of `value`."""
        return float(value * self.rng.lognormal(0, spread))

    def connect(self) -> None:
        """TCP's three packets; nothing over UDP."""
        if self.protocol == UDP:
            return
        self.control(up=True, gap_ms=0.0, options=True)
        self.control(up=False, gap_ms=self.about(self.rtt_ms, _JITTER), options=True)
        self._packet(0, up=True, gap_ms=self.about(0.05, 0.5))

    def secure(self) -> None:
        """TLS's or QUIC's greetings: hello, certificate, end."""
        hello = self.host.hello_bytes + self.day.hello_bytes + int(self.rng.integers(0, 6))
        self.up(max(hello, 1_200) if self.protocol == UDP else hello)
        self.down(self.about(3_200, 0.3))
        self.up(self.about(90, 0.15), pause_ms=self.about(1.0, 0.4))

    def up(self, count_bytes: float, *, pause_ms: float = 0.1) -> None:
        """A message of the client, after a pause."""
        self._message(count_bytes, up=True, gap_ms=self.about(pause_ms, _JITTER))

    def down(self, count_bytes: float, *, server_ms: float | None = None) -> None:
        """A message of the server, a round trip and its own time after the last packet."""
        own_ms = self.day.server_ms if server_ms is None else server_ms
        gap_ms = self.about(self.rtt_ms, _JITTER) + self.about(own_ms, 0.4)
        self._message(count_bytes * self.day.reply, up=False, gap_ms=gap_ms)

    def control(self, *, up: bool, gap_ms: float, options: bool) -> None:
        """A packet of TCP without payload: one that opens, with options, or one that refuses."""
        more = 8 if options else _BARE_TCP_BYTES - self.host.tcp_header_bytes
        self._packet(more, up=up, gap_ms=gap_ms)

    def datagram(self, count_bytes: float, *, up: bool, gap_ms: float) -> None:
        """One packet that nobody acknowledges."""
        self._packet(count_bytes, up=up, gap_ms=gap_ms)

    def _message(self, count_bytes: float, *, up: bool, gap_ms: float) -> None:
        left, number = max(1, round(count_bytes)), 0
        while left > 0 and not self.full:
            payload = min(left, self.host.payload_bytes)
            self._packet(payload, up=up, gap_ms=gap_ms)
            left, number = left - payload, number + 1
            gap_ms = self.about(_LINE_MS_PER_KB * payload / 1e3 * self.host.rtt_ms / 9, 0.6)
            if self.protocol == TCP and (number % 2 == 0 or left <= 0):
                back_ms = self.about(0.05, 0.5) if not up else self.about(self.rtt_ms, _JITTER)
                self._packet(0, up=not up, gap_ms=back_ms)

    def _packet(self, payload_bytes: float, *, up: bool, gap_ms: float) -> None:
        if self.full:
            return
        size = self._header_bytes + round(payload_bytes)
        self.sizes_bytes.append(float(size if up else -size))
        self.gaps_ms.append(float(gap_ms) if len(self.gaps_ms) else 0.0)
