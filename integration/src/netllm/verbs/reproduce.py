"""Reproduce: every claim of the paper, one command."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from netllm.verbs.check_arguments import check_jobs, names

if TYPE_CHECKING:
    from netllm.verbs.reproducing.experiments import Contender
    from netllm.verbs.reproducing.work import Work

OUT = Path("runs/reproduce")
_log = logging.getLogger("netllm.steps")  # shown by commands, unless they are to be quiet


@dataclass(frozen=True)
class ToDo:
    """What a reproduction does for one contender."""

    row: str
    contender: str
    """Or the pool that models of it learn from, or the backbone that they have."""
    missing: tuple[str, ...]
    """Settings without a result."""
    minutes: float | None
    """What it takes to train or to make it on two cores; None if nobody measured it."""
    testing: float | None
    """Minutes that testing it takes, as it did with its like; None if none was tested."""


@dataclass(frozen=True)
class Reproduction:
    """The end of a reproduction, or what one would do."""

    out: Path
    left: tuple[ToDo, ...]
    """What was not done: everything that is missing, of a dry run."""
    failed: tuple[str, ...] = ()
    """What failed, and why."""


def reproduce(
    *,
    budget: str = "fast",
    only: str | Sequence[str] = (),
    policy: str | Sequence[str] = (),
    out: str | Path = OUT,
    ledger: str | Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    known: bool = False,
    jobs: int = 1,
    data: str | Path | None = None,
    device: str = "auto",
) -> Reproduction:
    """Make what is missing of the paper's experiments, and write a report of all.

    Results that are known already, of this folder or of a ledger, are not made again. It may be cut
    off anywhere: the same call with `resume` goes on.

    Args:
        budget: How much: fast (minutes, generated data, tiny models: whether all works), day (what
            the shipped models and the rivals reach) or full (every training anew).
        only: Names of rows, as --dry-run lists them; all unless given.
        policy: Policies of your own, by name or MODULE:CLASS, that join the rows named by `only`.
        out: Folder of report.md, report.html, numbers.csv, numbers.json, figures, pools and runs.
        ledger: Folder of results, such as benchmarks/results/reproduce of a clone: what it holds is
            not made again, and what is made is kept there. In the folder `out` unless given.
        resume: Go on in a folder that holds a reproduction.
        dry_run: Do nothing but say what is missing, and what its trainings take.
        known: Train and test nothing; report what is known.
        jobs: Pieces of work at once, each in its own process; -1 for one per core.
        data: Folder of real data; that of NETLLM_DATA unless given.
        device: Where models compute: cpu, cuda, cuda:1, mps, or auto for a GPU if there is one.

    Raises:
        ValueError: for unknown names and values that cannot be, or a damaged ledger.
        FileExistsError: if `out` holds something else, or a reproduction and `resume` is not given,
            or pools and runs of another recipe.
        BlockingIOError: if another reproduction writes there.
    """
    from netllm_adapt.files.locks import locked

    from netllm.verbs.reproducing import experiments
    from netllm.verbs.reproducing.document import write
    from netllm.verbs.reproducing.findings import finding
    from netllm.verbs.reproducing.ledger import Ledger
    from netllm.verbs.reproducing.measures import read as read_measure
    from netllm.verbs.reproducing.work import Work

    check_jobs(jobs)
    whole, out = experiments.read(budget), Path(out)
    asked = {"only": names(only), "policy": names(policy)}
    rows, measures = experiments.chosen(whole, *asked.values())
    kept = out / "ledger" if ledger is None else Path(ledger)
    work = Work(whole, out, Ledger(kept), data, jobs, device)
    everyone = experiments.in_turn(rows, whole.models)
    if dry_run:
        return Reproduction(out, _to_do(work, everyone))
    _check_folder(out, resume=resume)
    with locked(out):
        _make(work, () if known else everyone)
        findings = [finding(work, row) for row in rows]
        measured = [read_measure(one, kept.parent) for one in measures]
        write(findings, measured, out, command=_command(budget, known=known, **asked))
    failed = tuple(line for one in findings for line in one.failed())
    return Reproduction(out, _to_do(work, everyone), failed)


def _make(work: Work, everyone: Sequence[Contender]) -> None:
    """Make what is missing, and say first how long that takes."""
    work.check(everyone)
    if left := _to_do(work, everyone):
        _log.info("All of it takes %s.", hours(left))
    for one in everyone:
        work.do(one)


def _to_do(work: Work, everyone: Sequence[Contender]) -> tuple[ToDo, ...]:
    """What is missing: pools and backbones, and contender by contender."""
    found: list[ToDo] = []
    needed: dict[str, float | None] = {}
    for one in everyone:
        if missing := work.missing(one):
            trained = one.model is not None and not work.trained(one)
            minutes = one.model.minutes if one.model is not None and trained else 0.0
            took = _testing(work, one, missing)
            found.append(ToDo(one.row.name, one.label, tuple(missing), minutes, took))
            needed |= work.needed(one) if trained else {}
    return (*(ToDo("", name, (), took, 0.0) for name, took in needed.items()), *found)


def hours(left: Sequence[ToDo]) -> str:
    """How long work takes, as far as it is known."""
    known = [(one.minutes or 0) + (one.testing or 0) for one in left]
    unknown = sum(None in (one.minutes, one.testing) for one in left)
    more = f", and what is unknown of {unknown} lines" if unknown else ""
    return f"{sum(known) / 60:.1f} h on two cores{more}"


def _testing(work: Work, one: Contender, settings: Sequence[str]) -> float | None:
    """Minutes that testing a contender takes: in each setting the median of its like."""
    models = one.model is not None
    took = [work.ledger.seconds(one.row.name, setting, models=models) for setting in settings]
    return sum(median(some) for some in took) / 60 if all(took) else None


def _command(budget: str, *, known: bool, **several: Sequence[str]) -> str:
    """What was asked for, without folders of this machine."""
    words = ["netllm", "reproduce", "--budget", budget, *(["--known"] if known else [])]
    for option, values in several.items():
        words += [f"--{option}", *values] if values else []
    return shlex.join(words)


def _check_folder(out: Path, *, resume: bool) -> None:
    from netllm_adapt.files.writing import check_replaceable

    from netllm.verbs.check_writable import check_folder

    ours = ("ledger", "recipes", "pools", "backbones", "runs", "figures", "report.md")
    check_replaceable(out, "a reproduction", ours=lambda it: any((it / n).exists() for n in ours))
    if not resume and out.is_dir() and any((out / name).exists() for name in ours):
        raise FileExistsError(
            f"{out} holds a reproduction. Go on with it by --resume, or choose another --out."
        )
    check_folder(out, files=("report.md", "report.html", "numbers.csv", "numbers.json"))
    out.mkdir(parents=True, exist_ok=True)
