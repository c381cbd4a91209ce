"""Checkpoints: where one lies (a folder, a run, the shipped one, the hub), and what it tells."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from netllm_adapt.checkpoint.config import DataIdentity

from netllm import registry

T = TypeVar("T")

SHIPPED = Path(__file__).parents[1] / "checkpoints"
PRETRAINED = "pretrained"
"""What a shipped checkpoint is called."""


def checkpoint_folder(task: str, name: str, *, home: Path) -> Path:
    """Where a checkpoint lies: itself, the best one of a run, or the one shipped with netllm.

    A name `owner/name` may also be one of the hub, see `netllm_adapt.checkpoint.hub`.

    Raises:
        ValueError: if there is none, or it is for another task.
    """
    folder = SHIPPED / task if name == PRETRAINED else home / name
    if name == PRETRAINED and not folder.is_dir():
        raise ValueError(f"This version of netllm ships no checkpoint for {task}.")
    if not folder_of_run(folder) and (fetched := fetched_folder(task, name, home=home)):
        return fetched
    here = existing_checkpoint(folder)
    read_facts(task, here)
    return here


def existing_checkpoint(folder: Path) -> Path:
    """The checkpoint of a run, or the folder itself if it is one.

    Raises:
        ValueError: if it is neither.
    """
    if here := folder_of_run(folder):
        return here
    raise ValueError(
        f"{folder} holds no checkpoint: neither it nor its folder `best` has a config.json. "
        "Give the `--out` folder of a `netllm adapt` that validated at least once, or `pretrained`."
    )


def folder_of_run(folder: Path) -> Path | None:
    """The same, after what was replaced there is recovered; None if it is neither."""
    from netllm_adapt.files.writing import recover

    for place in (folder, folder / "best"):
        recover(place)
        if (place / "config.json").is_file():
            return place
    return None


def fetched_folder(task: str, name: str, *, home: Path) -> Path | None:
    """The folder that a checkpoint of the hub is fetched to; None for a name that is none there.

    Raises:
        ValueError: if it is no checkpoint, or for another task.
        OSError: if the hub has none of that name, or cannot be reached.
    """
    from netllm_adapt.checkpoint.hub import fetch, is_repo

    if not is_repo(name, home=home):
        return None
    folder = fetch(name)
    read_facts(task, folder)
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint's weights, those of a merged backbone last."""
    from netllm_adapt.checkpoint.config import MERGED

    places = (folder, folder / MERGED)
    return [file for place in places for file in sorted(place.glob("*.safetensors"))]


def weights_of(task: str, name: str) -> str:
    """What tells a checkpoint's weights from others', wherever the folder lies."""
    found = hashlib.sha256()
    for path in weight_files(checkpoint_folder(task, name, home=Path.cwd())):
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                found.update(piece)
    return found.hexdigest()[:16]


class Facts(msgspec.Struct):
    """Those of one checkpoint."""

    task: str | None = None
    setting: str | None = None
    """Where it was validated."""
    teachers: list[str] = []
    """The policies that it learned from."""
    overrides: dict[str, Any] = {}
    """The fields of its setting that it was adapted with."""
    identity: DataIdentity | None = None
    """What its data were, and digests of what it learned from and validated on."""


def read_facts(task: str, folder: Path) -> Facts:
    """The facts of a checkpoint of a task.

    Raises:
        ValueError: naming file and field, if it is no checkpoint, is of another task, or a fact or
            what it needs to decide (the task's `State`) is not what it must be.
    """
    path = folder / "config.json"
    return _facts(task, folder, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=64)
def _facts(task: str, folder: Path, stamp: int) -> Facts:
    """Read once; `stamp` tells a rewritten checkpoint from the one read before."""
    from netllm_adapt.checkpoint.config import read_config

    config = read_config(folder)
    path = folder / "config.json"
    facts = _converted(config.about, Facts, "about", path)
    if facts.task not in (None, task):
        raise ValueError(f"{path}: the checkpoint was adapted to {facts.task}, not to {task}.")
    _converted(config.state, registry.task(task).State, "state", path)
    return msgspec.structs.replace(facts, identity=config.identity)


def _converted(values: Mapping[str, Any], kind: type[T], name: str, path: Path) -> T:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        told = str(error).replace("`$", f"`{name}")
        raise ValueError(f"{path}: {told}. Take config.json as it was saved.") from error
