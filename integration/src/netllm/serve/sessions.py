"""The sessions that are open, of all tasks; used from the event loop alone."""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


class SessionsFull(RuntimeError):
    """No more sessions may be open.

    Args:
        retry_s: after how long it is worth trying again.
    """

    def __init__(self, retry_s: int) -> None:
        super().__init__()
        self.retry_s = retry_s


@dataclass(eq=False)
class OpenSession:
    """One client's episode."""

    id: str
    task: str
    number: int
    """What policies know it by."""
    used_s: float
    """When it was asked about last."""
    step: int = 0
    """Decisions answered so far."""
    last: dict[str, Any] | None = None
    """The last answer, for a client that did not get it."""
    busy: bool = False
    """Whether a decision is asked for that is not answered yet."""
    unseen_reward: float = 0.0
    """Earned in steps that the policy was never asked about."""
    gone: bool = field(default=False)
    """Closed while it was busy."""


class Sessions:
    """Open sessions by their ids, which nobody can guess.

    Args:
        most: how many may be open.
        idle_s: one that is not used for so long is closed.
        closed: called with every session that is closed and not busy.
    """

    def __init__(self, *, most: int, idle_s: float, closed: Callable[[OpenSession], None]) -> None:
        self._most, self._idle_s, self._closed = most, idle_s, closed
        self._open: dict[str, OpenSession] = {}
        self._number = 0
        self.evicted = 0
        """How many were closed for idling so far."""

    def __iter__(self) -> Iterator[OpenSession]:
        return iter([*self._open.values()])

    def counts(self) -> Counter[str]:
        """How many are open, by task."""
        return Counter(one.task for one in self)

    def open(self, task: str, count: int) -> list[OpenSession]:
        """So many new sessions.

        Raises:
            SessionsFull: if they would be too many.
        """
        if len(self._open) + count > self._most:
            self.evict()
        if len(self._open) + count > self._most:
            oldest = min((one.used_s for one in self), default=time.monotonic())
            left_s = self._idle_s - (time.monotonic() - oldest)
            raise SessionsFull(max(1, math.ceil(left_s)))
        now = time.monotonic()
        opened = []
        for _ in range(count):
            self._number += 1
            opened.append(OpenSession(secrets.token_urlsafe(12), task, self._number, now))
        self._open |= {one.id: one for one in opened}
        return opened

    def find(self, task: str, id: str) -> OpenSession | None:
        """The session of a task with that id; None if there is none."""
        session = self._open.get(id)
        return session if session is not None and session.task == task else None

    def begin(self, session: OpenSession) -> None:
        """A decision is asked for."""
        session.busy, session.used_s = True, time.monotonic()

    def end(self, session: OpenSession) -> None:
        """It is answered, or never will be."""
        session.busy, session.used_s = False, time.monotonic()
        if session.gone:
            self._closed(session)

    def close(self, session: OpenSession) -> None:
        """Close it now, or as soon as it is not busy."""
        if self._open.pop(session.id, None) is None:
            return
        session.gone = True
        if not session.busy:
            self._closed(session)

    def evict(self) -> None:
        """Close those that are idle for too long."""
        before_s = time.monotonic() - self._idle_s
        idle = [one for one in self if not one.busy and one.used_s < before_s]
        for session in idle:
            self.close(session)
        self.evicted += len(idle)
