"""What the server does, whatever the protocol: sessions, decisions in time, and their count."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from netllm.serve.limits import Limits
from netllm.serve.metrics import Metrics
from netllm.serve.schema import Arrays, arrays, decisions_type
from netllm.serve.seat import Seat
from netllm.serve.sessions import OpenSession, Sessions, SessionsFull
from netllm.serve.worker import Question, QueueFull, Worker

_SPARE_S = 0.02
"""The fallback begins so long before the deadline, so that its answer is there in time."""


class Refused(Exception):
    """A request that is not served.

    Args:
        status: as HTTP numbers it.
        message: what must hold, what came, what to do.
        retry_s: after how long it is worth trying again; None if it is not.
    """

    def __init__(self, status: int, message: str, *, retry_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_s = retry_s


class Service:
    """The tasks that are served; its methods are called from one event loop.

    Args:
        seats: the tasks by name.
        limits: how much is taken.
    """

    def __init__(self, seats: Mapping[str, Seat], limits: Limits) -> None:
        self.seats, self.limits = seats, limits
        self.requests = {
            name: decisions_type(name, seat.fields, remembers=seat.remembers)
            for name, seat in seats.items()
        }
        """What `decide` is given, by task."""
        self.sessions = Sessions(
            most=limits.sessions, idle_s=limits.idle_s, closed=self._let_forget
        )
        self.metrics = Metrics(
            sessions=self._counts,
            waiting=lambda: self.worker.waiting,
            evicted=lambda: self.sessions.evicted,
        )
        self.worker = Worker(
            seats, queue=limits.queue, batch=limits.batch, passed=self.metrics.passed
        )
        self.ready = False

    def _counts(self) -> dict[str, int]:
        return {**dict.fromkeys(self.seats, 0), **self.sessions.counts()}

    def _let_forget(self, session: OpenSession) -> None:
        self.worker.close(session.task, [session.number])

    async def run_eviction(self) -> None:
        """Close idle sessions from time to time, for ever."""
        while True:
            await asyncio.sleep(min(self.limits.idle_s / 4, 10.0))
            self.sessions.evict()

    def session(self, task: str, id: str) -> OpenSession:
        """An open session.

        Raises:
            Refused: if there is none of that id.
        """
        session = self.sessions.find(task, id)
        if session is None:
            raise Refused(
                404,
                f"No session of {task} with the id {id!r} is open: it never was, was closed, or "
                f"was not used for {self.limits.idle_s:g} s. Open a new one.",
            )
        return session

    def open(self, task: str, count: int) -> list[OpenSession]:
        """New sessions.

        Raises:
            Refused: if they would be too many.
        """
        most = self.limits.sessions
        if count > most:
            raise Refused(422, f"`count` must be at most {most}, got {count}.")
        try:
            return self.sessions.open(task, count)
        except SessionsFull as full:
            raise Refused(
                503,
                f"At most {most} sessions may be open. Close some, or try again later.",
                retry_s=full.retry_s,
            ) from None

    async def decide(self, task: str, request: Any) -> list[dict[str, Any]]:
        """The answers to a request of the type that `decisions_type` made, in time.

        Raises:
            Refused: if a field contradicts another, a session is not open, busy or at another step,
                or too much waits.
        """
        arrived_s = time.monotonic()
        seat = self.seats[task]
        until_s = arrived_s + self._deadline_s(request.deadline_ms) - _SPARE_S
        rows, running = self._read(seat, request.decisions)
        if not seat.remembers:
            numbers = [*range(len(rows))]
            answers, by = await self._answers(seat, numbers, rows, running, until_s)
            self.metrics.decided(task, _who(by, seat), time.monotonic() - arrived_s)
            return [{"answer": answer, "by": by} for answer in answers.tolist()]
        sessions = self._asked(seat, request.decisions)
        if repeated := _repeated(sessions, request.decisions):
            return repeated
        for session, row in zip(sessions, rows, strict=True):
            self.sessions.begin(session)
            if "reward" in row:
                row["reward"] = row["reward"] + session.unseen_reward
        try:
            numbers = [session.number for session in sessions]
            answers, by = await self._answers(seat, numbers, rows, running, until_s, sessions)
        finally:
            for session in sessions:
                self.sessions.end(session)
        self.metrics.decided(task, _who(by, seat), time.monotonic() - arrived_s)
        for session, answer in zip(sessions, answers.tolist(), strict=True):
            told = {"session": session.id, "step": session.step, "answer": answer, "by": by}
            session.last, session.step = told, session.step + 1
        return [dict(session.last or {}) for session in sessions]

    async def answer(
        self, task: str, session: OpenSession | None, observation: Mapping[str, Any]
    ) -> Any:
        """One answer in any case, for players that do not ask again.

        The fallback gives it where there is no time or no room for the model.

        Args:
            task: whose it is.
            session: the player's; None where there was no room for one.
            observation: as JSON holds it.

        Raises:
            Refused: if the session is closed or busy.
        """
        question = {"session": session.id if session else "", "observation": observation}
        request: Any = msgspec.convert({"decisions": [question]}, self.requests[task])
        if session is not None:
            try:
                return (await self.decide(task, request))[0]["answer"]
            except Refused as refused:
                if refused.status != 503:
                    raise
        rows, running = self._read(self.seats[task], request.decisions)
        if session is not None:  # the model hears of it at the next step
            session.unseen_reward += float(rows[0].get("reward", 0.0))
        self.metrics.fell_back(task, "full", 1)
        return self.seats[task].fall_back(rows, running).tolist()[0]

    def _deadline_s(self, asked_ms: float | None) -> float:
        if asked_ms is None:
            return self.limits.deadline_s
        longest_s = self.limits.longest_deadline_s
        if asked_ms > longest_s * 1e3:
            raise Refused(
                422, f"`deadline_ms` must be at most {longest_s * 1e3:g}, got {asked_ms:g}."
            )
        return asked_ms * 1e-3

    def _read(self, seat: Seat, decisions: Sequence[Any]) -> tuple[list[Arrays], list[Any]]:
        """The observations of a request, and what `begin` is given of each."""
        rows, running = [], []
        for number, one in enumerate(decisions):
            where = f"decisions[{number}].observation"
            try:
                row = arrays(seat.fields, one.observation, where=where)
                found = seat.check(row)
            except ValueError as error:
                told = str(error)
                raise Refused(422, told if where in told else f"`{where}`: {told}") from error
            rows.append(row)
            running.append(None if found is None else found[0])
        return rows, running

    def _asked(self, seat: Seat, decisions: Sequence[Any]) -> list[OpenSession]:
        """The sessions of a request, none of them busy."""
        sessions = [self.session(seat.name, one.session) for one in decisions]
        if len({session.id for session in sessions}) < len(sessions):
            raise Refused(422, "`decisions` must name each session once.")
        for number, session in enumerate(sessions):
            if session.busy:
                raise Refused(
                    409,
                    f"`decisions[{number}].session` is being decided about. Wait for its answer.",
                    retry_s=1,
                )
        return sessions

    async def _answers(
        self,
        seat: Seat,
        numbers: Sequence[int],
        rows: Sequence[Arrays],
        running: Sequence[Any],
        until_s: float,
        sessions: Sequence[OpenSession] = (),
    ) -> tuple[np.ndarray, str]:
        """The answers, and who gave them: `model` or the fallback's name."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[np.ndarray | None] = loop.create_future()

        def deliver(answers: np.ndarray | None) -> None:
            loop.call_soon_threadsafe(_set, future, answers)

        question = Question(seat.name, numbers, rows, running, deliver)
        self._submit(question)
        try:
            await asyncio.wait({future}, timeout=max(0.0, until_s - time.monotonic()))
        except asyncio.CancelledError:  # the server ends: the session must not be asked twice
            self.worker.give_up(question, seat.fall_back(rows, running))
            raise
        if not future.done():
            instead = seat.fall_back(rows, running)
            if self.worker.give_up(question, instead):
                self.metrics.fell_back(seat.name, "late", len(rows))
                for session, row in zip(sessions, rows, strict=False):
                    unseen = not question.begun and "reward" in row
                    session.unseen_reward = float(row["reward"]) if unseen else 0.0
                return instead, seat.fallback_name
        answers = await future
        for session in sessions:
            session.unseen_reward = 0.0
        if answers is None:
            self.metrics.fell_back(seat.name, "failed", len(rows))
            return seat.fall_back(rows, running), seat.fallback_name
        return answers, "model"

    def _submit(self, question: Question) -> None:
        try:
            self.worker.submit(question)
        except QueueFull:
            raise Refused(
                503,
                f"At most {self.limits.queue} decisions may wait, and as many do. Try again later.",
                retry_s=1,
            ) from None


def _set(future: asyncio.Future[np.ndarray | None], answers: np.ndarray | None) -> None:
    if not future.done():
        future.set_result(answers)


def _who(by: str, seat: Seat) -> str:
    """`model` or `fallback`."""
    return "model" if by == "model" else "fallback"


def _repeated(
    sessions: Sequence[OpenSession], decisions: Sequence[Any]
) -> list[dict[str, Any]] | None:
    """The answers once more, if all are of steps that were answered last; None if all are new.

    Raises:
        Refused: if one is neither, or only some were answered.
    """
    again = []
    for number, (session, one) in enumerate(zip(sessions, decisions, strict=True)):
        if one.step is None or one.step == session.step:
            continue
        if one.step != session.step - 1 or session.last is None:
            raise Refused(
                409,
                f"`decisions[{number}].step` must be {session.step}, or {session.step - 1} to get "
                f"the last answer again, got {one.step}.",
            )
        again.append(dict(session.last))
    if again and len(again) < len(sessions):
        raise Refused(
            409, "`decisions` must all be new, or all be answered already. Ask in two requests."
        )
    return again or None
