"""One episode: a bottleneck link, and who else sends over it."""

from dataclasses import dataclass
from math import isfinite

from netllm_sims.abr.traces import Trace

PACKET_BYTES = 1500
"""What a packet of full size has, headers included."""
_MOST_RTT_MS = 10_000.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Link:
    """A bottleneck with a buffer, whose capacity follows a trace.

    Raises:
        ValueError: A number outside its range.
    """

    id: str
    """Name, unique among the links that are run together."""
    trace: Trace
    """The capacity; it repeats."""
    start_s: float = 0.0
    """Trace time at which the episode begins."""
    scale: float = 1.0
    """Factor on the capacity."""
    rtt_ms: float = 50.0
    """Round-trip time of a packet that waits in no queue, in ms."""
    buffer_packets: float = 100.0
    """Packets of 1,500 bytes that wait at most; what comes beyond is dropped."""
    loss: float = 0.0
    """Probability that a packet is lost by chance, before it reaches the queue."""
    competitors: tuple[int, ...] = ()
    """Monitoring interval at which each further flow, a CUBIC sender, begins."""
    seed: int = 0
    """Of the packets that are lost by chance."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("scale", 1e-4, 1e6),
            ("rtt_ms", 0.1, _MOST_RTT_MS),
            ("buffer_packets", 1.0, 1e9),
            ("loss", 0.0, 0.5),
            ("start_s", 0.0, self.trace.period_s),
        ):
            value = getattr(self, name)
            if not (isfinite(value) and least <= value <= most):
                raise ValueError(
                    f"`{name}` of link `{self.id}` must lie in [{least:g}, {most:g}], got {value}."
                )
        if any(start < 0 for start in self.competitors):
            raise ValueError(
                f"`competitors` of link `{self.id}` must begin at intervals >= 0, got "
                f"{self.competitors}."
            )

    @property
    def interval_s(self) -> float:
        """Length of a monitoring interval, half a round trip, in s."""
        return self.rtt_ms * 5e-4

    @property
    def contents(self) -> frozenset[str]:
        """Digest of the trace that it shows: who learned from it knows the link."""
        return frozenset({self.trace.digest})
