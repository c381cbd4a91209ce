"""Kills `netllm` at its writes and at random moments, and looks whether anything is lost.

    python kills.py FOLDER --kills 100

Each command runs undisturbed once. Then it is killed, repeated until it exits with 0, and must
leave what that one left: the same episodes, each once, the same weights, the same files. It is
killed at every open-to-write, fsync, rename and removal below its output folder in turn, as many as
`--kills` allows, evenly spread; every fifth kill comes at a random moment instead.

The commands run in forks of this process, which has everything loaded: a kill costs little.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
"""Events of Python's audit, but for `open`, that change what is on the disk."""
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork has none of its parent's threads
TRIES = 5
"""Times that a command may be repeated after a kill before it must have ended with 0."""


@dataclass(frozen=True)
class Case:
    """A command whose output must survive kills."""

    name: str
    command: Callable[[Path], list[str]]
    """Its words, for an output at a path."""
    kept: Callable[[Path], Any]
    """What the output holds, as something to compare."""


def collected(out: Path) -> Any:
    """Every shard, whose bytes tell its episodes, and how the episodes are divided."""
    from netllm_adapt import Pool

    pool = Pool(out)
    ids = [(one.id, one.policy) for one in pool]
    assert len(set(ids)) == len(ids), f"{len(ids) - len(set(ids))} episodes are there twice"
    shards = {path.name: path.read_bytes() for path in out.glob("shard-*")}
    return shards, pool.collected, names(out)


def learned(out: Path) -> Any:
    """Weights of both checkpoints, steps of the log, names of all files."""
    from netllm_adapt.training.run_folder import read_log

    weights = {
        str(path.relative_to(out)): path.read_bytes() for path in out.glob("*/*.safetensors")
    }
    assert weights
    return weights, [line["step"] for line in read_log(out)], names(out)


def improved(out: Path) -> Any:
    """Weights of every round, all episodes, the log without its times, names of all files."""
    from netllm_adapt.training.run_folder import read_log

    kept = [*out.rglob("*.safetensors"), *out.glob("pool/shard-*")]
    log = [{k: v for k, v in line.items() if not k.endswith("_s")} for line in read_log(out)]
    return {str(path.relative_to(out)): path.read_bytes() for path in kept}, log, names(out)


def exported(out: Path) -> Any:
    """The file, and that nothing lies beside it."""
    return Path(f"{out}.csv").read_bytes(), names(out.parent)


def names(folder: Path) -> list[str]:
    """What lies below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def cases(pool: Path, run: Path, episodes: int) -> list[Case]:
    """What is killed; adapting and exporting need a pool, improving a run too."""
    collect = ["rl-collect", "abr", "--policy", "bba", "--setting", "synthetic", "--append"]
    adapt = ["adapt", "abr", "--pool", str(pool), "--backbone", "scratch-16x1", "--resume"]
    adapt += ["--steps", "2", "--validate-every", "1", "--log-every", "1", "--validation", "1"]
    improve = ["improve", "abr", "--checkpoint", str(run), "--pool", str(pool), "--resume"]
    improve += ["--teacher", "bba", "--rounds", "2", "--episodes", "2", "--share", "0.5"]
    improve += ["--steps", "1", "--validation", "1"]
    return [
        Case(
            "rl-collect --append",
            lambda out: [*collect, "--episodes", str(episodes), "--out", str(out)],
            collected,
        ),
        Case(
            "adapt --resume",
            lambda out: [*adapt, "--batch", "2", "--out", str(out)],
            learned,
        ),
        Case("improve --resume", lambda out: [*improve, "--out", str(out)], improved),
        Case("pool export", lambda out: ["pool", "export", str(pool), f"{out}.csv"], exported),
    ]


def fork(work: Callable[[], int]) -> int:
    """The process number of a fork that exits with what `work` gives."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        code = work()
    finally:
        sys.stdout.flush()
        os._exit(code)


def quiet(words: Sequence[str]) -> int:
    """Run one command of the program without a word, unless it fails."""
    import contextlib
    import io

    from netllm.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(words)
    if code:
        print(f"{' '.join(words)}: exit code {code}\n{said.getvalue()}", file=sys.stderr)
    return code


def at_events(root: Path, happens: Callable[[], None]) -> None:
    """Call `happens` before each change of what lies at or below a path, until the process ends."""
    inside = str(root.parent)

    def concerns(path: Any, folder: Any = None) -> bool:
        if isinstance(folder, int) and folder >= 0:
            return True  # `rmtree` removes by open folders
        return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(inside)

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & WRITES and concerns(path):
                happens()
        elif event in CHANGES and concerns(arguments[0], arguments[-1]):
            happens()

    fsync = os.fsync

    def synced(handle: Any) -> None:
        happens()
        fsync(handle)

    os.fsync = synced
    sys.addaudithook(look)


def count_events(case: Case, out: Path) -> int:
    """How many changes of the disk the command makes; it is run to its end in a fork."""
    reader, writer = os.pipe()

    def work() -> int:
        seen = [0]

        def happens() -> None:
            seen[0] += 1

        at_events(out, happens)
        code = quiet(case.command(out))
        os.write(writer, str(seen[0]).encode())
        return code

    process = fork(work)
    os.close(writer)
    with os.fdopen(reader) as file:
        counted = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    return int(counted)


def killed_at(case: Case, out: Path, event: int) -> None:
    """Run the command in a fork that kills itself before one change of the disk."""

    def work() -> int:
        left = [event]

        def happens() -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        at_events(out, happens)
        return quiet(case.command(out))

    os.waitpid(fork(work), 0)


def killed_after(case: Case, out: Path, seconds: float) -> None:
    """Run the command in a fork, and kill it after some time."""
    process = fork(lambda: quiet(case.command(out)))
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def fault(case: Case, out: Path, expected: Any) -> str:
    """What is wrong after the command was repeated until it ended with 0; empty if nothing is."""
    for _ in range(TRIES):
        process = fork(lambda: quiet(case.command(out)))
        if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0:
            break
    else:
        return f"still fails after {TRIES} times"
    try:
        kept = case.kept(out)
    except (AssertionError, OSError, ValueError) as error:
        return str(error)
    return "" if kept == expected else "is another one than the undisturbed one"


def spread(count: int, total: int) -> list[int]:
    """So many numbers below `total`, evenly spread."""
    return (
        [number * total // count for number in range(count)] if count < total else [*range(total)]
    )


def faults(case: Case, folder: Path, kills: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Each kill, and what was wrong after it."""
    whole = folder / "whole" / "out"
    whole.parent.mkdir(parents=True)
    began = time.monotonic()
    assert quiet(case.command(whole)) == 0  # in this process: its forks find everything loaded
    expected = case.kept(whole)
    events = count_events(case, folder / "counted" / "out")
    seconds = 0.0
    for number, event in enumerate(spread(max(kills * 4 // 5, 1), events)):
        out = folder / f"event-{event}" / "out"
        out.parent.mkdir()
        began = time.monotonic()
        killed_at(case, out, event)
        yield f"before change {event} of {events}", fault(case, out, expected)
        seconds = max(seconds, (time.monotonic() - began) / 2)
        shutil.rmtree(out.parent)
        if number % 4 == 3:
            moment = rng.uniform(0, seconds)
            out.parent.mkdir()
            killed_after(case, out, moment)
            yield f"after {moment:.3f} s", fault(case, out, expected)
            shutil.rmtree(out.parent)


def main() -> int:
    """Print a line per command and one per loss; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to work; must be new")
    parser.add_argument("--kills", type=int, default=100, help="about how many, of all commands")
    parser.add_argument("--episodes", type=int, default=300, help="of a pool, 256 to a shard")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True)
    pool = folder / "pool"
    collect = ["rl-collect", "abr", "--policy", "bba", "--setting", "synthetic", "--episodes", "4"]
    collect += ["--set", "chunks=6", "--relabel", "bba"]  # short ones: a model will play them
    assert quiet([*collect, "--out", str(pool)]) == 0
    run = folder / "run"
    adapt = ["adapt", "abr", "--pool", str(pool), "--backbone", "scratch-16x1", "--steps", "1"]
    assert quiet([*adapt, "--batch", "2", "--validation", "1", "--out", str(run)]) == 0
    rng = random.Random(given.seed)
    shares = (2, 3, 2, 1)  # of the kills, by how much each command writes
    print(f"{'command':<22}{'kills':>6}{'lost':>6}")
    lost = 0
    for case, share in zip(cases(pool, run, given.episodes), shares, strict=True):
        place = folder / case.name.replace(" ", "-")
        done = [*faults(case, place, given.kills * share // sum(shares), rng)]
        wrong = [(when, what) for when, what in done if what]
        print(f"{case.name:<22}{len(done):>6}{len(wrong):>6}", flush=True)
        for when, what in wrong:
            print(f"  killed {when}: {what}")
        lost += len(wrong)
    return min(lost, 1)


if __name__ == "__main__":
    sys.exit(main())
