"""What runs within the namespace: servers, hosts and the recorder, until the time is over."""

from __future__ import annotations

import itertools
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from netllm.flows.recording import capture, lines
from netllm.flows.recording.hosts import HOSTS, Host, servers
from netllm.flows.recording.known_programs import PROGRAMS, Program

_START = 1 / 3
"""In this share of the time every host begins with every program, or sooner."""
_NICER = 10
"""By how much all others let the recorder go first, so that it loses nothing."""


def main(folder: Path, seconds: float, classes: Sequence[str]) -> dict[str, object]:
    """Record what hosts do with the programs of some classes; what was counted and denied.

    Raises:
        RuntimeError: A program fails.
    """
    lines.bring_up()
    denied = lines.limit()
    programs = {name: PROGRAMS[name].make(folder) for name in classes}
    listening = [one.listen(where) for name, one in programs.items() for where in servers(name)]
    ring = capture.Ring()
    process = get_context("fork")
    told = process.SimpleQueue()
    until_s = time.time() + seconds

    def record() -> None:
        told.put(capture.record(ring, folder, classes, until_s))

    recorder = process.Process(target=record, daemon=True)
    answering = process.Process(target=_serve, args=[listening], daemon=True)
    recorder.start()
    os.nice(_NICER)
    answering.start()
    _end_with_input()
    _live(programs, _START * seconds, until_s)
    answering.terminate()
    recorder.join()
    if recorder.exitcode:
        raise RuntimeError("The recorder must end well, but it failed.")
    return {**told.get()._asdict(), "denied": denied}


def _serve(listening: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=one, daemon=True) for one in listening]
    for one in threads:
        one.start()
    threads[0].join()


def _live(programs: Mapping[str, Program], start_s: float, until_s: float) -> None:
    """Let all hosts use all programs until a time."""
    failures: queue.Queue[Exception] = queue.Queue()

    def use(host: Host, name: str) -> None:
        try:
            _use(host, name, programs[name], start_s)
        except Exception as fault:
            fault.add_note(f"while {host.address} used {name}")
            failures.put(fault)

    for pair in itertools.product(HOSTS, programs):
        threading.Thread(target=use, args=pair, daemon=True).start()
    with suppress(queue.Empty):
        raise failures.get(timeout=max(0.0, until_s - time.time()))


def _use(host: Host, name: str, program: Program, start_s: float) -> None:
    """Let a host use a program again and again, from some moment of the start on."""
    rng = np.random.default_rng()
    time.sleep(rng.uniform(0, min(program.pause_s, start_s)))
    while True:
        program.use(host, str(rng.choice(servers(name))), rng)
        time.sleep(rng.exponential(program.pause_s))


def _end_with_input() -> None:
    """End when the input does, which whoever started this holds open."""

    def wait() -> None:
        os.read(0, 1)  # nothing is ever written: it ends
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _told(fault: Exception) -> str:
    return "\n".join([f"{fault}", *getattr(fault, "__notes__", [])])


if __name__ == "__main__":
    try:
        outcome = main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
    except (OSError, RuntimeError) as fault:
        sys.exit(_told(fault))
    print(json.dumps(outcome), flush=True)
    os._exit(0)  # what hosts still do is over
