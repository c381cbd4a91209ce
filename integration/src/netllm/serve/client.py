"""A server's models as policies: `NETLLM_SERVER=http://… netllm test abr --policy client`."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from netllm import registry
from netllm.serve.schema import described, split

if TYPE_CHECKING:
    import httpx

SERVER, TOKEN = "NETLLM_SERVER", "NETLLM_TOKEN"
"""Environment variables: the server's address, and the token that it requires, of both sides."""
PATIENCE_S = 60.0
"""How long an answer is waited for: a test wants the model's, not the fallback's."""


_ANSWER_S = 2 * PATIENCE_S
"""After so long without an answer the server is taken for gone."""


class Connection:
    """A server's tasks, sessions and decisions.

    Args:
        server: its address, such as http://127.0.0.1:8035; NETLLM_SERVER if None.
        token: what it requires; NETLLM_TOKEN if None.
        patience_s: how long it is asked again while it has no room.

    Raises:
        ValueError: if there is no address.
        ModuleNotFoundError: if httpx is missing.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        token: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "A client needs httpx: pip install 'netllm[serve]'.", name="httpx"
            ) from error
        self.server = server or os.environ.get(SERVER) or ""
        if not self.server:
            raise ValueError(
                f"A client needs a server's address: set {SERVER}=http://127.0.0.1:8035 to where "
                "`netllm serve` listens."
            )
        token = token or os.environ.get(TOKEN)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._patience_s = patience_s
        self._http = httpx.Client(
            base_url=self.server, headers=headers, timeout=_ANSWER_S, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Ask no more."""
        self._http.close()

    def tasks(self) -> dict[str, Any]:
        """What is served, by task."""
        tasks: dict[str, Any] = self._asked("GET", "/v1/tasks").json()
        return tasks

    def open(self, task: str, count: int) -> list[str]:
        """The ids of new sessions."""
        opened: list[str] = self._asked("POST", f"/v1/{task}/sessions", {"count": count}).json()[
            "sessions"
        ]
        return opened

    def decide(
        self, task: str, questions: Sequence[Mapping[str, Any]], *, deadline_s: float | None = None
    ) -> list[dict[str, Any]]:
        """The answers to questions of some sessions, which are answered in one pass.

        Args:
            task: theirs.
            questions: `observation` of each, and `session` where the task has sessions.
            deadline_s: when the fallback answers; the server's own deadline if None.
        """
        asked: dict[str, Any] = {"decisions": [*questions]}
        if deadline_s is not None:
            asked["deadline_ms"] = deadline_s * 1e3
        answers: list[dict[str, Any]] = self._asked("POST", f"/v1/{task}/decisions", asked).json()[
            "decisions"
        ]
        return answers

    def close(self, task: str, session: str) -> None:
        """Close a session."""
        self._asked("DELETE", f"/v1/{task}/sessions/{session}")

    def _asked(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """What the server answers; while it has no room, it is asked again.

        Raises:
            ConnectionError: if nobody answers there, or there is no room for long.
            PermissionError: if the token is not the one required.
            ValueError: if it refuses the request.
        """
        import httpx

        until_s = time.monotonic() + self._patience_s
        while True:
            try:
                response = self._http.request(method, path, json=body)
            except httpx.HTTPError as error:
                raise ConnectionError(
                    f"{self.server} does not answer: {error or type(error).__name__}. Does "
                    "`netllm serve` run there?"
                ) from error
            wait_s = float(response.headers.get("Retry-After", 0))
            if response.status_code == 503 and time.monotonic() + wait_s < until_s:
                time.sleep(wait_s or 0.1)
                continue
            if response.is_success:
                return response
            told = f"{self.server}{path}: {response.status_code} {response.text:.500}"
            if response.status_code == 401:
                raise PermissionError(f"{told} Set {TOKEN} to the server's token.")
            if response.status_code >= 500:
                raise ConnectionError(told)
            raise ValueError(told)


class Client:
    """A policy of any task whose answers are a server's.

    It asks about a batch in one request, so that the server answers it in one pass, and waits for
    the model. `validity` is the share of answers that the model gave, the others being the
    fallback's.

    Args:
        task: the task's name.
        setting: what it is to act in, as the server's policy.
        connection: to the server; a new one, as the environment says, if None.

    Raises:
        ValueError: if the server does not serve the task, or reads other fields.
        ConnectionError: if it does not answer.
    """

    def __init__(self, task: str, setting: Any, *, connection: Connection | None = None) -> None:
        self._task = task
        self._fields = registry.task(task).observation_fields(setting)
        self._connection = connection or Connection()
        self._sessions: dict[int, str] = {}
        self._asked = self._by_model = 0
        own = connection is None
        weakref.finalize(self, _closed, self._connection, task, self._sessions, end=own)
        self._remembers = self._check()

    def _check(self) -> bool:
        """Whether the task has sessions.

        Raises:
            ValueError: if its fields are not the server's.
        """
        tasks = self._connection.tasks()
        where = self._connection.server
        if self._task not in tasks:
            raise ValueError(f"{where} must serve {self._task}, but it serves {', '.join(tasks)}.")
        theirs, ours = tasks[self._task]["observation"], described(self._fields)
        for name in dict.fromkeys([*theirs, *ours]):
            if theirs.get(name) != ours.get(name):
                raise ValueError(
                    f"{where} and this setting must agree in the field {name!r} of {self._task}: "
                    f"the server reads {_shape(theirs.get(name))}, the setting "
                    f"{tasks[self._task]['setting']!r} there, and here it is "
                    f"{_shape(ours.get(name))}. Give the same --setting to both."
                )
        return bool(tasks[self._task]["sessions"])

    @property
    def validity(self) -> float | None:
        """The share of answers that the model gave since the last reset."""
        return self._by_model / self._asked if self._asked else None

    def reset(self, seed: int) -> None:
        """Begin new sessions."""
        _closed(self._connection, self._task, self._sessions)
        self._asked = self._by_model = 0

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The server's answer for every episode."""
        seen = split(self._fields, observation)
        questions: list[dict[str, Any]] = [{"observation": own} for own in seen]
        if self._remembers:
            count = len(questions)
            episodes = observation["episode"].tolist() if "episode" in observation else range(count)
            self._follow([*episodes])
            for question, episode in zip(questions, episodes, strict=True):
                question["session"] = self._sessions[episode]
        answers = self._connection.decide(self._task, questions, deadline_s=PATIENCE_S)
        self._asked += len(answers)
        self._by_model += sum(one["by"] == "model" for one in answers)
        return np.array([one["answer"] for one in answers])

    def _follow(self, episodes: Sequence[int]) -> None:
        """Open the sessions of new episodes, and close those of episodes that have ended."""
        for episode in [*self._sessions.keys() - {*episodes}]:
            self._connection.close(self._task, self._sessions.pop(episode))
        new = [episode for episode in episodes if episode not in self._sessions]
        if new:
            opened = self._connection.open(self._task, len(new))
            self._sessions.update(zip(new, opened, strict=True))


def _closed(
    connection: Connection, task: str, sessions: dict[int, str], *, end: bool = False
) -> None:
    """Close the sessions, as far as the server is there and has them still."""
    while sessions:
        _, session = sessions.popitem()
        with suppress(OSError, ValueError):
            connection.close(task, session)
    if end:
        connection.end()


def _shape(field: Mapping[str, Any] | None) -> str:
    return "nothing" if field is None else f"{field['kind']} of shape {tuple(field['shape'])}"
