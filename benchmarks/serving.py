"""The server under load: sessions of all tasks that ask in their own time, or as fast as they can.

    python benchmarks/serving.py [--quick] [--minutes 10] [--json FILE]
    python benchmarks/serving.py --documents FILE

`netllm serve` answers in a process of its own with the three models that ship, on the real data
(NETLLM_DATA; without it, and with `--quick`, on generated data). Other processes play simulated
episodes against it, a few sessions each, so that none waits for another one's interpreter:

- alone, then together: one session, then 8 and 64 of mixed tasks, each asking again at once and
  waiting for the model; decisions per second, and how many times those of one session;
- in time: 64 sessions at the pace of their tasks (a chunk in 4 s, a viewport in 1 s, a cluster in
  2 s), each with the usual deadline; how long answers took, who gave them, and the server's memory
  from minute to minute.

All share the machine, so what simulators and clients take is missing to the server.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _documents import put
from _machine import machine
from netllm import registry
from netllm.serve.client import Client, Connection
from netllm.serve.limits import Limits

PACE_S = {"abr": 4.0, "vp": 1.0, "cjs": 2.0}
MIX = ("abr", "abr", "vp", "cjs")
"""Tasks of sessions, over and over."""
_PATIENCE_S = 60.0
_CLIENTS = 4
"""Processes that play."""
_BEGIN_S = 1.0
"""Time to load settings before all begin."""


class Over(Exception):
    """The time is up."""


Took = tuple[str, str, float]
"""Of one answer: the task, who gave it, and how long it took, in seconds."""


@dataclass
class Load:
    """What sessions do, and what came of it."""

    paced: bool
    deadline_s: float
    until_s: float
    took: list[Took] = field(default_factory=list)


class Timed(Connection):
    """A connection that keeps its task's pace and notes how long answers take."""

    def __init__(self, server: str, load: Load) -> None:
        super().__init__(server)
        self._load, self._next_s = load, 0.0

    def decide(self, task: str, questions: Any, *, deadline_s: float | None = None) -> Any:
        load = self._load
        if load.paced:
            if not self._next_s:  # not all at once
                self._next_s = time.monotonic() + PACE_S[task] * random.random()
            time.sleep(max(0.0, self._next_s - time.monotonic()))
            self._next_s += PACE_S[task]
        began_s = time.monotonic()
        if began_s > load.until_s:
            raise Over
        answers = super().decide(task, questions, deadline_s=load.deadline_s)
        load.took.append((task, answers[0]["by"], time.monotonic() - began_s))
        return answers


@contextmanager
def serving(setting: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server's address and process."""
    tasks = [*PACE_S]
    command = [sys.executable, "-m", "netllm", "serve", "--port", "0"]
    command += ["--checkpoint", *(f"{task}=pretrained" for task in tasks)]
    command += ["--setting", *(f"{task}={setting}" for task in tasks)]
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Serving"):
                where = line.split(" on ")[1].split(";")[0]
                break
        else:
            raise RuntimeError("`netllm serve` has ended before it served.")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        with Connection(where) as probe:
            until_s = time.monotonic() + _PATIENCE_S
            while time.monotonic() < until_s:
                try:
                    probe.tasks()
                    break
                except ConnectionError:
                    time.sleep(0.1)
        try:
            yield where, psutil.Process(process.pid)
        finally:
            process.terminate()


def play(task: str, setting: Any, where: str, load: Load, number: int) -> None:
    """Play episodes until the time is up."""
    found = registry.task(task)
    episodes = found.episodes(setting, "test")
    with Timed(where, load) as connection:
        client = Client(task, setting, connection=connection)
        while True:
            number = (number + 1) % len(episodes)
            try:
                found.rollout(client, setting, [episodes[number]], seed=0)
            except Over:
                client.reset(0)
                return


def play_some(
    setting: str, where: str, tasks: list[tuple[int, str]], began_s: float, load: Load
) -> list[Took]:
    """Let numbered sessions of these tasks play side by side, all in this process."""
    settings = {task: registry.task(task).setting(setting) for _, task in tasks}
    time.sleep(max(0.0, began_s - time.monotonic()))
    threads = [
        threading.Thread(target=play, args=(task, settings[task], where, load, number))
        for number, task in tasks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load.took


@dataclass(frozen=True)
class Clients:
    """Processes that play against a server."""

    pool: Executor
    setting: str
    where: str

    def play(
        self, tasks: list[str], seconds: float, *, paced: bool = False, deadline_s: float
    ) -> list[Took]:
        """What a session of each of these tasks, all at once, was answered in so many seconds."""
        began_s = time.monotonic() + _BEGIN_S  # a clock that all processes of a machine share
        load = Load(paced, deadline_s, began_s + seconds)
        numbered = [*enumerate(tasks)]
        parts = [
            self.pool.submit(play_some, self.setting, self.where, some, began_s, load)
            for some in (numbered[first::_CLIENTS] for first in range(_CLIENTS))
        ]
        return [took for part in parts for took in part.result()]


def mixed(sessions: int) -> list[str]:
    """The tasks of so many sessions."""
    return [MIX[number % len(MIX)] for number in range(sessions)]


def throughput(clients: Clients, seconds: float) -> list[dict[str, Any]]:
    """Decisions per second of one session after the other of each task, and of several at once."""
    rows: list[dict[str, Any]] = []
    alone = {}
    for task in PACE_S:
        took = clients.play([task], seconds, deadline_s=_PATIENCE_S)
        if not took:
            raise RuntimeError(f"{task} was not answered once in {seconds:g} s.")
        alone[task] = len(took) / seconds
        rows.append({"sessions": 1, "task": task, "per_s": alone[task]})
    for sessions in (8, 64):
        took = clients.play(mixed(sessions), seconds, deadline_s=_PATIENCE_S)
        count = {task: sum(name == task for name, _, _ in took) for task in PACE_S}
        # The time that as many decisions of each task take, one session after the other.
        times = sum(count[task] / alone[task] for task in PACE_S) / seconds
        per_s = len(took) / seconds
        rows.append({"sessions": sessions, "task": "mixed", "per_s": per_s, "times": times})
    return rows


def in_time(clients: Clients, process: psutil.Process, minutes: float) -> dict[str, Any]:
    """Latency, fallbacks and memory of 64 sessions at their pace."""
    memory_mb: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while True:
            memory_mb.append(process.memory_info().rss / 1e6)
            if over.wait(min(60.0, 60 * minutes)):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    took = clients.play(mixed(64), 60 * minutes, paced=True, deadline_s=Limits.deadline_s)
    over.set()
    watcher.join()
    took_ms = np.array([seconds for _, _, seconds in took]) * 1e3
    return {
        "sessions": 64,
        "minutes": minutes,
        "decisions": len(took_ms),
        "p50_ms": float(np.quantile(took_ms, 0.5)),
        "p99_ms": float(np.quantile(took_ms, 0.99)),
        "by_model": float(np.mean([by == "model" for _, by, _ in took])),
        "memory_mb": memory_mb,
    }


def table(document: dict[str, Any]) -> str:
    """What was measured, for the document."""
    lines = ["| sessions | decisions/s | as many, one after the other |", "|---|---:|---:|"]
    for row in document["throughput"]:
        times = f"{row['times']:.2f}x" if "times" in row else ""
        lines.append(f"| {row['sessions']}, `{row['task']}` | {row['per_s']:.1f} | {times} |")
    paced = document["paced"]
    memory = ", ".join(f"{mb:,.0f}" for mb in paced["memory_mb"])
    return "\n".join(lines) + (
        f"\n\n{paced['sessions']} sessions that ask at their tasks' pace for "
        f"{paced['minutes']:g} min, {paced['decisions']:,} times, are answered in "
        f"{paced['p50_ms']:.0f} ms in the median and {paced['p99_ms']:.0f} ms in 99 % of cases, "
        f"{100 * paced['by_model']:.1f} % of them by the model. The server's memory, minute by "
        f"minute, in MB: {memory}. {document['machine']['cpu']}, two cores for all."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--documents", type=Path, metavar="FILE", help="JSON of an earlier run")
    args = parser.parse_args()
    if args.documents:
        put("docs/serve.md", "serving", table(json.loads(args.documents.read_text())))
        print(f"docs/serve.md now holds the table of {args.documents}")
        return
    setting = "synthetic" if args.quick else "default"
    seconds, minutes = (10.0, 0.1) if args.quick else (20.0, args.minutes)
    spawn = multiprocessing.get_context("spawn")
    with serving(setting) as (where, process), ProcessPoolExecutor(_CLIENTS, spawn) as pool:
        clients = Clients(pool, setting, where)
        clients.play(mixed(8), 1.0, deadline_s=_PATIENCE_S)  # all is loaded then
        document = {
            "machine": machine(),
            "throughput": throughput(clients, seconds),
            "paced": in_time(clients, process, minutes),
        }
    print(table(document))
    if args.json:
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
