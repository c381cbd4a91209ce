"""Time of collecting a pool with one worker, two processes (loky), and two workers of Ray.

    python benchmarks/workers.py [--episodes 2000] [--policy hindsight] [--rounds 3] [--quick]
                                 [--json FILE]

A policy that thinks plays in pieces of 256 episodes that take seconds each; the starts alone are
told by 512 episodes of `bba`, which thinks little. Each is done so many times in turn, in a process
of its own with one thread, and the least counts: workers that share a machine with other work only
ever lose. Beside wall time stands CPU time, which other work disturbs less: of all processes
together, and of the command's own and its busiest worker's, one after the other. By the clock idle
cores also wait, such as for Ray to start.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from _machine import machine

WAYS = {
    "one": ("--jobs", "1"),
    "loky": ("--jobs", "2"),
    "ray": ("--jobs", "2", "--backend", "ray"),
}
LOOK_S = 0.25
STARTS = ("--policy", "bba", "--episodes", "512")
Figures = dict[str, float]


def collected(way: tuple[str, ...], what: tuple[str, ...]) -> Figures:
    """Seconds of one collection, from the start of its process to the end."""
    with tempfile.TemporaryDirectory() as folder:
        command = (sys.executable, "-m", "netllm", "rl-collect", "abr", *what, *way)
        more = ("--out", str(Path(folder) / "pool"), "--quiet")
        begun = time.perf_counter()
        process = psutil.Popen(
            (*command, *more),
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        used: dict[psutil.Process, float] = {}
        while process.poll() is None:
            look(process, used)
            time.sleep(LOOK_S)
        wall = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    own = used.pop(process)
    return {
        "wall": wall,
        "cpu": own + sum(used.values()),
        "longest": own + max(used.values(), default=0.0),
    }


def look(process: psutil.Process, used: dict[psutil.Process, float]) -> None:
    """Note how much CPU time a process and all below it have used."""
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:  # ended meanwhile
            continue
        used[one] = times.user + times.system


def measured(what: tuple[str, ...], rounds: int) -> dict[str, Figures]:
    """The least figures of each way, the ways in turn."""
    found: dict[str, list[Figures]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            found[name].append(collected(way, what))
    return {
        name: {key: min(one[key] for one in several) for key in several[0]}
        for name, several in found.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--policy", default="hindsight")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="short episodes, one round")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    work: tuple[str, ...] = ("--policy", args.policy, "--episodes", str(args.episodes))
    if args.quick:
        work, args.rounds = (*work, "--set", "chunks=8"), 1
    parts = {"start": STARTS, "all": work}
    found = {part: measured(what, args.rounds) for part, what in parts.items()}
    print("least seconds      wall   CPU, longest   CPU, all   start: wall, CPU longest")
    for name in WAYS:
        whole, start = found["all"][name], found["start"][name]
        print(
            f"{name:12} {whole['wall']:10.1f} {whole['longest']:14.1f} {whole['cpu']:10.1f} "
            f"{start['wall']:13.1f} {start['longest']:12.1f}"
        )
    for key in ("wall", "longest"):
        one, loky, ray = (found["all"][name][key] for name in WAYS)
        print(f"{key}: loky {one / loky:.2f} x, Ray {one / ray:.2f} x; Ray {ray / loky - 1:+.1%}")
    if args.json:
        facts = {name: value for name, value in vars(args).items() if name not in ("json", "quick")}
        document = {"machine": machine(), **facts, "seconds": found}
        args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
