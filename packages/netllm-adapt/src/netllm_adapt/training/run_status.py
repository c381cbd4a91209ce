"""How runs stand: which go on, which were cut off, how far each is, and what its best figure is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netllm_adapt.checkpoint.config import read_config
from netllm_adapt.files.locks import writer_of
from netllm_adapt.files.reading import read_json
from netllm_adapt.training.run_folder import holds_run, read_log

VALIDATION = "validation "
"""How the names of a checkpoint's figures on validation begin."""


@dataclass(frozen=True)
class RunStatus:
    """How a run stands."""

    path: Path
    state: str
    """`running`, `finished`, or `stopped`: nobody is writing it, and it has not reached its end."""
    step: int
    """The last one that was logged."""
    steps: int
    """The recipe's."""
    seconds_left: float | None
    """At the mean speed since it was begun or resumed; None where nothing tells it."""
    best: Mapping[str, float]
    """Figures on validation of the best checkpoint, the one that chooses first; empty at first."""
    loss: float | None
    """The last one that was logged."""
    writer: str
    """Who is writing it, if somebody is."""
    error: str
    """What ended it, if it said so."""


def find_runs(folder: str | Path) -> Iterator[Path]:
    """The runs in a folder and below, in the order of their paths; none within another.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder. Give one that holds runs of `adapt`.")
    if holds_run(folder):
        yield folder
        return
    for below in sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink()):
        yield from find_runs(below)


def read_status(run: str | Path) -> RunStatus:
    """How a run stands, from what its folder holds; the run is not disturbed.

    Raises:
        ValueError: naming the file, if one is damaged.
    """
    run = Path(run)
    log = read_log(run) if (run / "log.jsonl").is_file() else []
    losses = [line for line in log if "loss" in line]
    step = max((line["step"] for line in log), default=0)
    steps = read_json(run / "settings.json")["recipe"]["steps"]
    writer = writer_of(run)
    ended = (run / "finished.json").is_file()
    failed = run / "failed.json"
    return RunStatus(
        path=run,
        state="finished" if ended else "stopped" if writer is None else "running",
        step=step,
        steps=steps,
        seconds_left=None if ended else _seconds_left(losses, steps - step),
        best=_best(run / "best"),
        loss=losses[-1]["loss"] if losses else None,
        writer=writer or "",
        error=str(read_json(failed)["error"]) if failed.is_file() else "",
    )


def _seconds_left(losses: list[dict[str, Any]], steps: int) -> float | None:
    """By the lines since the clock began anew, which it does when a run is resumed."""
    begin = len(losses) - 1
    while begin > 0 and losses[begin - 1]["seconds"] < losses[begin]["seconds"]:
        begin -= 1
    if len(losses) - begin < 2:
        return None
    first, last = losses[begin], losses[-1]
    pace = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
    return float(pace * steps)


def _best(checkpoint: Path) -> dict[str, float]:
    if not (checkpoint / "config.json").is_file():
        return {}
    about = read_config(checkpoint).about
    named = {key: value for key, value in about.items() if key.startswith(VALIDATION)}
    return {key.removeprefix(VALIDATION): float(value) for key, value in named.items()}
