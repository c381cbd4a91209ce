"""How much a server takes, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of a server.

    Raises:
        ValueError: if one is out of range.
    """

    sessions: int = 256
    """Sessions that are open at once, of all tasks together."""
    queue: int = 256
    """Decisions that wait at once, of all tasks together."""
    batch: int = 64
    """Sessions that are answered in one pass, unless one request alone asks for more."""
    idle_s: float = 300.0
    """A session that is not asked about for so long is closed."""
    deadline_s: float = 0.15
    """After so long the fallback answers, unless a request says otherwise."""
    longest_deadline_s: float = 120.0
    """The longest deadline that a request may ask for."""
    body_bytes: int = 16 << 20
    """The largest body of a request."""
    body_s: float = 10.0
    """How long a body may take to arrive."""

    def __post_init__(self) -> None:
        for name in ("sessions", "queue", "batch", "body_bytes"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        for name in ("idle_s", "longest_deadline_s", "body_s"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"`{name}` must be above 0, got {value}.")
        if not 0 <= self.deadline_s <= self.longest_deadline_s:
            raise ValueError(
                f"`deadline_s` must lie between 0 and {self.longest_deadline_s:g}, "
                f"got {self.deadline_s}."
            )
