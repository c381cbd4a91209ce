"""Kills processes that share a run or a collection, and looks whether anything is lost.

    python kills_of_workers.py FOLDER --kills 30 [--only ranks]

Each way of sharing work runs undisturbed once. Then one of its processes is killed at a random
moment, and the command is repeated, where it has not ended with 0 all the same, until it does. It
must leave what the undisturbed one left: the same episodes, each once, the same weights.

- `ranks`: two processes adapt together; one is killed. The other must end within a minute, and say
  why.
- `stalls`: the same, but one is stopped, as by a network that carries nothing more.
- `full disk`: the same, but one cannot write.
- `loky`: a worker, or the driver, of `--jobs 2`.
- `ray`: a worker, or the driver, of `--backend ray`. A killed worker must not even be noticed.
- `ray stalls`: one of two machines of a cluster is stopped, as by a network that carries nothing
  more. The driver must not even notice.
- `sweep`: one of two workers of a sweep. The other must do all that is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kills import TRIES, collected, fork, learned

PATIENCE_S = 60.0
"""Within which the others of a failed process must have ended."""
STALL = timedelta(seconds=5)
"""After which a process that does not answer is given up here, in place of `LONGEST_STEP`."""
CLUSTER = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1_000,
    "health_check_timeout_ms": 3_000,
    "grpc_client_keepalive_time_ms": 10_000,
    "grpc_client_keepalive_timeout_ms": 5_000,
}
"""Settings of Ray: by its own it waits for a machine that does not answer for seven minutes."""
RAY = r"^ray::(?!\w*Agent)"
"""The command line of Ray's workers; with one of its agents it gives up the whole machine."""
ROOM = 20_000
"""Bytes of the largest file that fits on a full disk: settings and log do, no weights."""


def spoken(words: Sequence[str], said: Path) -> int:
    """Run one command of the program; what it says goes to a file."""
    from netllm.cli import main

    with (
        said.open("w", encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        return main(words)


def rank(number: int, port: int, words: Sequence[str], said: Path, full: bool) -> int:
    """One of two processes that share a run, as a launcher starts them."""
    place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if full:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))
    return spoken(words, said)


def ranks(words: Sequence[str], folder: Path, *, full: bool = False) -> list[int]:
    """Two forks that share a run; with `full` the first, which writes, finds no room."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        fork(partial(rank, n, port, words, folder / f"rank-{n}.txt", full and n == 0))
        for n in range(2)
    ]


def ended(process: int, seconds: float) -> int | None:
    """The exit code of a fork that ends in so many seconds; None, and killed, if it does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


class Way(NamedTuple):
    """A way of sharing work, and how it is disturbed."""

    command: Callable[[Path], list[str]]
    kept: Callable[[Path], Any]
    undisturbed: Callable[[Sequence[str], Path], int]
    """The exit code of a command that works in a folder."""
    disturbed: Callable[[Sequence[str], Path, float, random.Random], str]
    """The same with a disturbance after so many seconds; what was wrong."""


def together(words: Sequence[str], folder: Path) -> int:
    """The exit code of two processes that share a run."""
    codes = [ended(process, 600.0) for process in ranks(words, folder)]
    return max(70 if code is None else abs(code) for code in codes)


def killed_rank(
    words: Sequence[str],
    folder: Path,
    seconds: float,
    rng: random.Random,
    signal_number: int = signal.SIGKILL,
) -> str:
    """Kill, or stop, one of two processes that share a run."""
    both = ranks(words, folder)
    number = rng.randrange(2)
    time.sleep(seconds)
    os.kill(both[number], signal_number)
    code = ended(both[1 - number], PATIENCE_S)
    if signal_number != signal.SIGKILL:
        os.kill(both[number], signal.SIGKILL)
    if ended(both[number], PATIENCE_S) is None or code is None:
        return "the other process did not end within a minute"
    return unless_told(code, folder / f"rank-{1 - number}.txt", "--resume")


def stopped_machine(words: Sequence[str], folder: Path, seconds: float, rng: random.Random) -> str:
    """Stop all processes of the second machine of a cluster, once it works."""
    process = fork(partial(cluster_driver, words, folder))
    second = folder / "raylet.txt"
    while not (second.exists() and workers(int(second.read_text()), RAY)):
        if (code := ended_already(process)) is not None:
            return f"it ended with {code} before the second machine worked"
        time.sleep(0.05)
    time.sleep(seconds)
    raylet = int(second.read_text())
    found = [*workers(raylet, ""), raylet]
    for one in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGSTOP)
    code = ended(process, PATIENCE_S * 2)
    for one in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    if code:
        return f"it ended with {code}: {(folder / 'driver.txt').read_text()[-500:]}"
    return "" if code is not None else "it did not end after a machine was stopped"


def cluster_driver(words: Sequence[str], folder: Path) -> int:
    """A driver that starts two machines of Ray here, and leaves the second one's number."""
    from ray.cluster_utils import Cluster

    os.setpgid(0, 0)
    head = {"num_cpus": 1, "_system_config": CLUSTER}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    node: Any = cluster.add_node(num_cpus=1)
    (raylet,) = node.all_processes["raylet"]
    (folder / "raylet.txt").write_text(str(raylet.process.pid))
    try:
        return spoken([*words, "--address", cluster.address], folder / "driver.txt")
    finally:
        for one in (node, cluster.head_node):
            one.kill_all_processes(check_alive=False)  # a cluster's own end asks both first


def killed_searcher(words: Sequence[str], folder: Path, seconds: float, rng: random.Random) -> str:
    """Kill one of two workers that share a sweep."""
    both = [fork(partial(spoken, words, folder / f"worker-{n}.txt")) for n in range(2)]
    number = rng.randrange(2)
    time.sleep(seconds)
    os.kill(both[number], signal.SIGKILL)
    code = ended(both[1 - number], 600.0)
    os.waitpid(both[number], 0)
    if code is None:
        return "the other worker did not end"
    told = (folder / f"worker-{1 - number}.txt").read_text()
    return f"the other worker ended with {code}: {told[-500:]}" if code else ""


def searched(out: Path) -> Any:
    """Of every trial, whatever its number, its weights with the steps of its log."""
    return [learned(run) for run in out.glob("trial-*")]


def unless_told(code: int, said: Path, words: str) -> str:
    """What is wrong with how a process ended."""
    told = said.read_text(encoding="utf-8")
    if code and words not in told:
        return f"a process ended with {code} and did not say {words!r}: {told[-500:]}"
    return ""


def full_disk(words: Sequence[str], folder: Path, seconds: float, rng: random.Random) -> str:
    """Leave the process that writes no room."""
    codes = [ended(process, PATIENCE_S) for process in ranks(words, folder, full=True)]
    if None in codes or 0 in codes:
        return f"the processes ended with {codes}, but found no room"
    return unless_told(1, folder / "rank-0.txt", "File too large")


def driver(words: Sequence[str], folder: Path) -> int:
    """A driver whose workers end with it."""
    os.setpgid(0, 0)
    return spoken(words, folder / "driver.txt")


def alone(
    words: Sequence[str], folder: Path, drive: Callable[[Sequence[str], Path], int] = driver
) -> int:
    """The exit code of a driver with its workers."""
    code = ended(fork(partial(drive, words, folder)), 600.0)
    return 70 if code is None else code


def killed_worker(
    words: Sequence[str],
    folder: Path,
    seconds: float,
    rng: random.Random,
    mark: str,
    survives: bool,
) -> str:
    """Kill a worker, or at every third time the driver, once the workers are there."""
    process = fork(partial(driver, words, folder))
    found: list[int] = []
    while not found:
        if (code := ended_already(process)) is not None:
            return f"it ended with {code} before a worker was there"
        found = workers(process, mark)
        time.sleep(0.05)
    time.sleep(seconds)
    found = workers(process, mark)
    if not found or rng.random() < 1 / 3:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        return ""
    with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(found), signal.SIGKILL)
    code = ended(process, 600.0)
    if code is None:
        return "it did not end after a worker was killed"
    if code and survives:
        return f"it ended with {code}: {(folder / 'driver.txt').read_text()[-500:]}"
    return ""


def ended_already(process: int) -> int | None:
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def workers(process: int, mark: str) -> list[int]:
    """The descendants of a process whose command line has a mark, a regular expression."""
    parents: dict[int, int] = {}
    marked: list[int] = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            line = (place / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # ended meanwhile
            continue
        parents[int(place.name)] = parent
        if re.search(mark, line):
            marked.append(int(place.name))
    return [one for one in marked if process in lineage(one, parents)]


def lineage(process: int, parents: dict[int, int]) -> list[int]:
    """Those that a process descends from."""
    found = []
    while (process := parents.get(process, 0)) > 1:
        found.append(process)
    return found


def ways(pool: Path) -> dict[str, Way]:
    """Those of adapting to a pool, and of collecting one."""
    adapt = ["adapt", "abr", "--pool", str(pool), "--backbone", "tiny-random", "--layers", "1"]
    adapt += ["--rank", "2", "--dtype", "float32", "--steps", "60", "--validate-every", "5"]
    adapt += ["--validation", "2", "--batch", "2", "--micro-batch", "1", "--resume"]
    collect = ["rl-collect", "abr", "--policy", "mpc", "--setting", "synthetic", "--append"]
    collect += ["--episodes", "1200", "--jobs", "2"]

    def run(out: Path) -> list[str]:
        return [*adapt, "--out", str(out)]

    def gather(out: Path, *more: str) -> list[str]:
        return [*collect, "--out", str(out), *more]

    def by_ray(out: Path) -> list[str]:
        return gather(out, "--backend", "ray")

    def search(out: Path) -> list[str]:
        return ["sweep", "abr", str(file), "--out", str(out)]

    stop = partial(killed_rank, signal_number=signal.SIGSTOP)
    loky = partial(killed_worker, mark="popen_loky", survives=False)
    ray = partial(killed_worker, mark=RAY, survives=True)
    clustered = partial(alone, drive=cluster_driver)
    trials = {"pool": str(pool), "backbone": "scratch-16x1", "steps": 10, "validate_every": 1}
    trials |= {"batch": 2, "validation": 1, "trials": 4}
    file = pool.with_name("sweep.toml")
    told = [f"{name} = {json.dumps(value)}" for name, value in trials.items()]
    file.write_text("\n".join([*told, "[search]", "rank = [2]"]), encoding="utf-8")
    return {
        "ranks": Way(run, learned, together, killed_rank),
        "stalls": Way(run, learned, together, stop),
        "full disk": Way(run, learned, together, full_disk),
        "loky": Way(gather, collected, alone, loky),
        "ray": Way(by_ray, collected, alone, ray),
        "ray stalls": Way(by_ray, collected, clustered, stopped_machine),
        "sweep": Way(search, searched, alone, killed_searcher),
    }


def faults(way: Way, folder: Path, kills: int, rng: random.Random) -> list[str]:
    """What was wrong, disturbance by disturbance; empty where nothing was."""
    whole = folder / "whole" / "out"
    whole.parent.mkdir(parents=True)
    began = time.monotonic()
    assert way.undisturbed(way.command(whole), whole.parent) == 0
    lasts = time.monotonic() - began
    expected = way.kept(whole)
    found = []
    for number in range(kills):
        out = folder / f"kill-{number}" / "out"
        out.parent.mkdir()
        words = way.command(out)
        wrong = way.disturbed(words, out.parent, rng.uniform(0, lasts), rng)
        if not wrong and not any(way.undisturbed(words, out.parent) == 0 for _ in range(TRIES)):
            wrong = f"still fails after {TRIES} times"
        if not wrong and way.kept(out) != expected:
            wrong = "is another one than the undisturbed one"
        found.append(wrong)
        if not wrong:
            shutil.rmtree(out.parent)
    return found


def main() -> int:
    """Print a line per way and one per loss; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to work; must be new")
    parser.add_argument("--kills", type=int, default=30, help="about how many, of all ways")
    parser.add_argument("--only", nargs="*", help="ways; all if none")
    parser.add_argument("--seed", type=int, default=0, help="of moments and victims")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True)
    pool = folder / "pool"
    collect = ["rl-collect", "abr", "--policy", "bba", "--setting", "synthetic", "--episodes", "4"]
    assert spoken([*collect, "--out", str(pool)], folder / "collect.txt") == 0
    warm = folder / "warm"  # in this process, so that its forks find everything loaded
    command = ways(pool)["ranks"].command(warm)
    command[command.index("--steps") + 1] = "1"
    assert spoken(command, folder / "adapt.txt") == 0
    from accelerate.state import AcceleratorState
    from netllm_adapt.training import processes

    AcceleratorState._reset_state(reset_partial_state=True)  # which told this process it is alone
    processes.LONGEST_STEP, processes.LONGEST_WAIT = STALL, 4 * STALL
    rng = random.Random(given.seed)
    chosen = {name: way for name, way in ways(pool).items() if name in (given.only or ways(pool))}
    print(f"{'way':<12}{'kills':>6}{'lost':>6}")
    lost = 0
    for name, way in chosen.items():
        found = faults(way, folder / name, max(given.kills // len(chosen), 1), rng)
        wrong = [what for what in found if what]
        print(f"{name:<12}{len(found):>6}{len(wrong):>6}", flush=True)
        for what in wrong:
            print(f"  {what}")
        lost += len(wrong)
    return min(lost, 1)


if __name__ == "__main__":
    sys.exit(main())
