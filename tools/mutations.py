"""Mutate valid inputs of every loader, and judge what each makes of them: `nox -s mutations`.

A mutated input must load to what it says, or be refused by an error (`ValueError` or `OSError`) of
which the message names the file. All else is a fault: another error, a message without the file's
name, a crash, a hang, more memory than allowed, or something that loads but means something else.
Prints a table, then the faults by kind; exits with 1 if there are any.

    python tools/mutations.py                        1,000 mutations of every loader
    python tools/mutations.py vp-csv cjs-spark       of these
    python tools/mutations.py vp-csv --only 17       one, with its traceback and the mutated files
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from mutating.judging import Outcome, Subject, case, judged

_ALONE = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "HF_HUB_OFFLINE": "1",
}
"""Environment of the children: threads and pools reserve memory that they never use."""


def subjects() -> Mapping[str, Subject]:
    """All loaders by name."""
    from mutating import files, flows, folders, jobs, recipes_and_caches, weights

    modules = files, jobs, flows, weights, folders, recipes_and_caches
    return {name: one for module in modules for name, one in module.SUBJECTS.items()}


def main() -> int:
    """Run the harness; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="loaders; all by default")
    parser.add_argument("--count", type=int, default=1_000, help="mutations of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="that one may take")
    parser.add_argument("--megabytes", type=int, default=1_024, help="that one may take")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this one, here")
    parser.add_argument("--out", type=Path, help="write all outcomes as JSON")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    known = subjects()
    if strangers := [name for name in args.names if name not in known]:
        parser.error(f"{', '.join(strangers)}: must be of {', '.join(known)}")
    if args.work:
        return _work(known[args.names[0]], args)
    if args.only is not None:
        return _look(known[args.names[0]], args)
    outcomes: dict[str, list[Outcome]] = {}
    print(
        f"{'loader':18}{'mutations':>10}{'same':>7}{'other':>7}{'refused':>9}{'faults':>8}{'s':>7}"
    )
    for name in args.names or known:
        start = time.monotonic()
        outcomes[name] = list(_supervised(name, args))
        kinds = Counter(one.verdict for one in outcomes[name])
        counts = [kinds[kind] for kind in ("same", "other", "refused", "fault")]
        cells = "".join(f"{n:>{width}}" for n, width in zip(counts, (7, 7, 9, 8), strict=True))
        print(
            f"{name:18}{len(outcomes[name]):>10}{cells}{time.monotonic() - start:>7.0f}", flush=True
        )
    faults = {name: [o for o in some if o.verdict == "fault"] for name, some in outcomes.items()}
    for name, some in faults.items():
        _tell(name, some)
    if args.out:
        args.out.write_text(
            json.dumps({n: [o._asdict() for o in some] for n, some in outcomes.items()})
        )
    return int(any(faults.values()))


def _tell(name: str, faults: list[Outcome]) -> None:
    """The faults of a loader by kind: how many, the first one's number, and what it was."""
    kinds: dict[str, list[Outcome]] = {}
    for one in faults:
        kinds.setdefault(re.sub(r"\d+|'[^']*'|`[^`]*`", "#", one.why)[:60], []).append(one)
    for some in sorted(kinds.values(), key=len, reverse=True):
        print(f"{name} x{len(some)} (--only {some[0].number}, {some[0].what}): {some[0].why}")


def _supervised(name: str, args: argparse.Namespace) -> Iterator[Outcome]:
    """The outcomes from child processes; one that dies or hangs is a fault, and another goes on."""
    number = 0
    with tempfile.TemporaryDirectory() as work:
        while number < args.count:
            limits = [f"--{key}={getattr(args, key)}" for key in ("count", "seed", "megabytes")]
            command = [
                sys.executable,
                __file__,
                name,
                f"--work={work}",
                f"--first={number}",
                *limits,
            ]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, env=os.environ | _ALONE
            ) as child:
                for outcome in _lines(child, args.seconds):
                    yield outcome
                    number = outcome.number + 1
                status = child.poll()
                child.kill()
            if status == 1:  # an exception of this harness: those of loaders are judged
                raise RuntimeError(f"{name}, {number}: {Path(work, 'stderr').read_text()}")
            if number < args.count:
                said = "a hang" if status is None else f"a crash, exit status {child.wait()}"
                yield Outcome(number, "fault", Path(work, "what").read_text(), said)
                number += 1


def _lines(child: subprocess.Popen[bytes], seconds: float) -> Iterator[Outcome]:
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    rest = b""
    allowed_s = seconds + 120  # the first one comes after the imports
    while select.select([child.stdout], [], [], allowed_s)[0]:
        if not (piece := child.stdout.read(1 << 16)):
            child.wait()
            return
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield Outcome(*json.loads(line))
        allowed_s = seconds


def _limit(megabytes: int) -> None:
    """Allow this process so much more address space than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _work(subject: Subject, args: argparse.Namespace) -> int:
    """Judge the mutations from `args.first` on; one line of JSON for each."""
    out = os.fdopen(os.dup(1), "w")
    for stream, target in ((1, os.devnull), (2, os.path.join(args.work, "stderr"))):
        os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    work = Path(args.work)
    template = work / f"template-{args.first}"
    template.mkdir()
    root = subject.make(template).relative_to(template)
    original = subject.load(template / root)
    _limit(args.megabytes)
    for number in range(args.first, args.count):
        folder = work / f"case-{number}"
        what, file = case(subject, template, folder, args.seed, number)
        (work / "what").write_text(what)
        verdict, why = judged(subject, folder / root, folder, file, original)
        shutil.rmtree(folder, ignore_errors=True)
        out.write(json.dumps([number, verdict, what, why]) + "\n")
        out.flush()
    out.flush()
    os._exit(0)


def _look(subject: Subject, args: argparse.Namespace) -> int:
    """Load one mutated input here, and leave it for a look."""
    work = Path(tempfile.mkdtemp())
    template, folder = work / "template", work / "case"
    template.mkdir()
    root = subject.make(template).relative_to(template)
    original = subject.load(template / root)
    what, file = case(subject, template, folder, args.seed, args.only)
    print(f"{what}, of {file}: compare {template} and {folder}")
    print(*judged(subject, folder / root, folder, file, original), sep=": ")
    result = subject.load(folder / root)
    print(repr(result)[:2_000])
    return 0


if __name__ == "__main__":
    sys.exit(main())
