"""Wall time of collecting a pool with one worker, two processes (loky), and two workers of Ray.

    python benchmarks/workers.py [--episodes 2000] [--policy mpc] [--rounds 3] [--json FILE]

Each is done so many times in turn, in a process of its own, and the least time counts: workers that
share a machine with other work only ever lose. Starting the workers is part of it. Nothing else may
be at work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _machine import machine

WAYS = {
    "one": ("--jobs", "1"),
    "loky": ("--jobs", "2"),
    "ray": ("--jobs", "2", "--backend", "ray"),
}


def collect_s(way: tuple[str, ...], policy: str, episodes: int) -> float:
    """Seconds of one collection, from the start of its process to the end."""
    with tempfile.TemporaryDirectory() as folder:
        command = (sys.executable, "-m", "netllm", "rl-collect", "abr", "--policy", policy)
        more = ("--episodes", str(episodes), "--out", str(Path(folder) / "pool"), "--quiet", *way)
        begun = time.perf_counter()
        subprocess.run((*command, *more), check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--policy", default="mpc")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    seconds = {name: float("inf") for name in WAYS}
    for _ in range(args.rounds):
        for name, way in WAYS.items():
            seconds[name] = min(seconds[name], collect_s(way, args.policy, args.episodes))
    for name, least in seconds.items():
        print(f"{name}: {least:.1f} s, {seconds['one'] / least:.2f} x as fast as one worker")
    print(f"Ray takes {seconds['ray'] / seconds['loky'] - 1:+.1%} of loky's time more")
    if args.json:
        facts = {"episodes": args.episodes, "policy": args.policy, "rounds": args.rounds}
        document = {"machine": machine(), **facts, "seconds": seconds}
        args.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
