"""Trackers: programs that draw the log of a run as curves, by way of accelerate."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal, get_args

Tracker = Literal["tensorboard", "trackio", "wandb"]
"""TensorBoard; Trackio, which keeps its files on this machine; Weights & Biases, offline."""
_PROJECT = "netllm"


def check_tracker(name: str | None) -> None:
    """Raise unless a tracker is one of `Tracker` and is installed; None is no tracker.

    Raises:
        ValueError: for another name.
        ModuleNotFoundError: telling how to install it.
    """
    if name is None:
        return
    if name not in get_args(Tracker):
        known = ", ".join(get_args(Tracker))
        raise ValueError(f"`tracker` must be one of {known}, or None, got {name!r}.")
    package = find_spec(name)
    if package is None or package.origin is None:  # a mere folder of this name has no origin
        raise ModuleNotFoundError(
            f"`tracker` {name!r} needs the package {name}. "
            f"In a clone: pip install './packages/netllm-adapt[{name}]'"
        )


@contextmanager
def tracking(name: Tracker | None, run: Path, settings: Mapping[str, Any]) -> Iterator[Any]:
    """A block with accelerate's tracker of a run, which has nothing yet; None without a name.

    TensorBoard and Weights & Biases write into a folder of their name in the run's. Trackio fixes
    its folder once for a process: `TRACKIO_DIR`, else its usual one. What it has of an earlier
    start of the run stays there, beside the new one.

    Args:
        name: of a tracker that is installed.
        run: the run's folder.
        settings: what tells this run from others, ready for JSON.

    Raises:
        OSError: if it cannot write.
    """
    if name is None:
        yield None
        return
    if (run / name).exists():
        shutil.rmtree(run / name)
    tracker = _made(name, run, settings)
    with redirect_stdout(io.StringIO()):  # which is the command's: Trackio greets
        tracker.start()
    try:
        yield tracker
    finally:
        with redirect_stdout(io.StringIO()):
            tracker.finish()
            _leave(name)


def _made(name: Tracker, run: Path, settings: Mapping[str, Any]) -> Any:
    from accelerate.tracking import TensorBoardTracker, TrackioTracker, WandBTracker

    if name == "tensorboard":
        return TensorBoardTracker(name, run)
    own: dict[str, Any] = {"name": "/".join(run.absolute().parts[-2:]), "config": settings}
    if name == "trackio":
        _check_trackio()
        own |= {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
        return TrackioTracker(_PROJECT, **own)
    # Otherwise it reports of itself to its makers, offline too.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    own |= {"dir": str(run), "mode": os.environ.get("WANDB_MODE", "offline")}
    return WandBTracker(_PROJECT, **own, settings={"silent": True, "console": "off"})


def _check_trackio() -> None:
    """Raise unless Trackio can write: it would only warn."""
    from trackio.utils import TRACKIO_DIR

    TRACKIO_DIR.mkdir(parents=True, exist_ok=True)
    TemporaryFile(dir=TRACKIO_DIR).close()


def _leave(name: Tracker) -> None:
    """End what accelerate leaves: Trackio prints of it at the process's end, wandb still writes."""
    if name == "trackio":
        import trackio

        trackio.finish()
    elif name == "wandb":
        import wandb

        wandb.teardown()
