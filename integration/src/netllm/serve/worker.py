"""The thread that owns the models: what waits is answered together."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from netllm.serve.schema import Arrays
from netllm.serve.seat import Seat

logger = logging.getLogger(__name__)


class QueueFull(RuntimeError):
    """No more decisions may wait."""


@dataclass(eq=False)
class Question:
    """Decisions that one request asks for, of one task; they are answered in one pass."""

    task: str
    sessions: Sequence[int]
    """By number, each once."""
    rows: Sequence[Arrays]
    """Their observations."""
    running: Sequence[Any]
    """What `Policy.begin` is given for each, or None."""
    answered: Callable[[np.ndarray | None], None]
    """Called in the worker's thread with the answers, once; None if the policy failed."""
    begun: bool = field(default=False, init=False)
    """Whether the policy has it."""
    instead: np.ndarray | None = field(default=None, init=False)
    """What the fallback has answered, since the policy was late."""
    done: bool = field(default=False, init=False)


class Worker:
    """Answers the questions of all tasks, one pass after the other.

    A question is answered once: by its policy, or by who calls `give_up` before. What was answered
    instead is told to the policy, so that its session goes on from what was really done; a question
    that is given up before its turn is never seen by the policy.

    Args:
        seats: the tasks by name.
        queue: how many decisions may wait.
        batch: how many sessions are answered in one pass.
        passed: called with task and size after every pass.
    """

    def __init__(
        self,
        seats: Mapping[str, Seat],
        *,
        queue: int,
        batch: int,
        passed: Callable[[str, int], None] = lambda task, size: None,
    ) -> None:
        self._seats = seats
        self._queue, self._batch, self._passed = queue, batch, passed
        self._waiting: deque[Question] = deque()
        self._closing: list[tuple[str, Sequence[int]]] = []
        self._stopped = False
        self._ready = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="netllm-worker", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what waits, and end."""
        with self._ready:
            self._stopped = True
            self._ready.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many decisions wait."""
        return sum(len(one.rows) for one in tuple(self._waiting))

    def submit(self, question: Question) -> None:
        """Put a question into the queue.

        Raises:
            QueueFull: if there is no room; a question alone always has room.
        """
        with self._ready:
            waiting = self.waiting
            if waiting and waiting + len(question.rows) > self._queue:
                raise QueueFull
            self._waiting.append(question)
            self._ready.notify()

    def close(self, task: str, sessions: Sequence[int]) -> None:
        """Let a policy forget sessions, before it sees any further question."""
        with self._ready:
            self._closing.append((task, sessions))
            self._ready.notify()

    def give_up(self, question: Question, instead: np.ndarray) -> bool:
        """Whether a question is now answered by `instead`; False if its policy was faster."""
        with self._ready:
            if question.done:
                return False
            question.instead, question.done = instead, True
            if not question.begun:
                self._waiting.remove(question)
            return True

    def _run(self) -> None:
        while True:
            with self._ready:
                while not (self._waiting or self._closing or self._stopped):
                    self._ready.wait()
                if self._stopped and not self._waiting:
                    return
                closing, self._closing = self._closing, []
                gathered = self._gathered()
            for task, sessions in closing:
                self._seats[task].close(sessions)
            for task, questions in gathered.items():
                self._answer(self._seats[task], questions)

    def _gathered(self) -> dict[str, list[Question]]:
        """The questions of the next passes, by task: the oldest, as many as a batch holds."""
        gathered: dict[str, list[Question]] = {}
        room = self._batch
        while self._waiting and (not gathered or len(self._waiting[0].rows) <= room):
            question = self._waiting.popleft()
            question.begun = True
            room -= len(question.rows)
            gathered.setdefault(question.task, []).append(question)
        return gathered

    def _answer(self, seat: Seat, questions: Sequence[Question]) -> None:
        """Answer questions of one task in one pass."""
        sessions = [session for one in questions for session in one.sessions]
        rows = [row for one in questions for row in one.rows]
        running = [own for one in questions for own in one.running]
        try:
            answers = seat.decide(sessions, rows, running)
            self._passed(seat.name, len(rows))
            taken = self._settled(questions, answers)
            if taken is not None:
                seat.took(taken)
        except Exception:
            # One question must not end the others' service. What the policy holds of these
            # sessions is not to be trusted, so they begin anew.
            logger.exception("%s: %d decisions failed", seat.name, len(rows))
            seat.close(sessions)
            for question in questions:
                self._deliver(question, None)

    def _settled(self, questions: Sequence[Question], answers: np.ndarray) -> np.ndarray | None:
        """What was really answered, where that differs; every question is answered now."""
        taken, late, start = np.array(answers), False, 0
        for question in questions:
            own = slice(start, start + len(question.rows))
            start = own.stop
            self._deliver(question, answers[own])
            if question.instead is not None:
                taken[own], late = question.instead, True
        return taken if late else None

    def _deliver(self, question: Question, answers: np.ndarray | None) -> None:
        with self._ready:
            first, question.done = not question.done, True
        if first:
            question.answered(answers)
