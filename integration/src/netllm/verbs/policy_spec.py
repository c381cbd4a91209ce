"""Who is tested: a policy by name, or a checkpoint by folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.registry import policy, task
from netllm.report.training_seeds import Lineage, found_checkpoints, lineages
from netllm.task import Policy
from netllm.verbs.checkpoint_facts import Facts, read_facts

if TYPE_CHECKING:
    from netllm_adapt import Adapted
    from netllm_adapt.checkpoint.config import DataIdentity

SHIPPED = Path(__file__).parents[1] / "checkpoints"


@dataclass(frozen=True)
class Declared:
    """What a policy says of itself."""

    sequential: bool = False
    """Whether it asks to run alone, episode by episode."""
    knows: str = ""
    """What it knows beyond the observation."""


@dataclass(frozen=True)
class Contender:
    """A policy or a checkpoint, small enough to be sent to another process."""

    task: str
    """The task's name."""
    policy: str | None = None
    """The policy's name, `NAME:FILE.npz` or `module:callable`."""
    checkpoint: str | None = None
    """A run's folder, a checkpoint's folder, `owner/name` on the hub, or `pretrained`."""
    device: str = "cpu"
    """Where a checkpoint's model decides: auto, cpu, cuda or mps."""
    trust_backbone: bool = False
    """Whether a checkpoint's backbone may be one of a folder or a hub, which is fetched."""
    lineage: Lineage | None = None
    """What a checkpoint says of its making."""
    optional: bool = False
    """Whether it is left out, with a note, where it cannot be built; else that is an error."""
    home: Path = field(default_factory=Path.cwd)
    """Where names of modules and folders begin; another process may work elsewhere."""
    folder: Path | None = None
    """Where a checkpoint of the hub was fetched to."""

    @property
    def name(self) -> str:
        """The policy's name, or the checkpoint's nickname."""
        if self.lineage is not None:
            return self.lineage.nickname
        return self.policy or Path(str(self.checkpoint)).name

    def build(self, setting: Any) -> Policy:
        """The policy itself."""
        if self.policy is not None:
            return policy(self.task, self.policy, setting, home=self.home)
        folder = self.found()
        stamp = (folder / "config.json").stat().st_mtime_ns
        return task(self.task).policy(
            _model(folder, stamp, self.device, self.trust_backbone), setting
        )

    def declared(self, setting: Any) -> Declared:
        """What it says of itself; wrong names fail here, and no model is loaded."""
        if self.checkpoint is not None:
            from netllm_adapt.device import resolve_device

            self.found()
            resolve_device(self.device)
            return Declared()
        built = self.build(setting)
        return Declared(bool(getattr(built, "sequential", False)), getattr(built, "knows", ""))

    def teachers(self) -> tuple[str, ...]:
        """The policies that a checkpoint learned from, as it says itself."""
        return tuple(self._facts().teachers)

    def overrides(self) -> dict[str, Any]:
        """The fields of its setting that a checkpoint was adapted with, as it says itself."""
        return dict(self._facts().overrides)

    def setting(self) -> str:
        """The setting that a checkpoint was validated in, as it says itself."""
        return self._facts().setting or "default"

    def identity(self) -> DataIdentity | None:
        """What a checkpoint's data were, and digests of what it learned from and validated on."""
        return self._facts().identity

    def _facts(self) -> Facts:
        return Facts() if self.checkpoint is None else read_facts(self.found())

    def found(self) -> Path:
        """The folder of its checkpoint."""
        return self.folder or checkpoint_folder(self.task, str(self.checkpoint), home=self.home)


def of_checkpoints(task: str, names: Sequence[str], **options: Any) -> list[Contender]:
    """The checkpoints that are named, or that fit a pattern, with what each says of its making.

    Raises:
        ValueError: if there is no such checkpoint, or it is for another task.
    """
    from netllm_adapt.checkpoint.config import read_config
    from netllm_adapt.checkpoint.hub import is_repo

    home = Path.cwd()
    found = found_checkpoints(names, home=home)
    folders = {name: checkpoint_folder(task, name, home=home) for name in found}
    lineage = lineages(found, [read_config(folder) for folder in folders.values()])
    return [
        Contender(
            task,
            checkpoint=name,
            lineage=lineage[name],
            folder=folder if is_repo(name, home=home) else None,
            **options,
        )
        for name, folder in folders.items()
    ]


@lru_cache(maxsize=1)
def _model(folder: Path, stamp: int, device: str, trust_backbone: bool) -> Adapted:
    """A checkpoint's model; `stamp` tells a rewritten checkpoint from the one kept."""
    from netllm_adapt import Adapted

    return Adapted.from_pretrained(folder, device=device, trust_backbone=trust_backbone)


def checkpoint_folder(task: str, name: str, *, home: Path) -> Path:
    """Where a checkpoint lies: itself, the best one of a run, or the one shipped with netllm.

    A name `owner/name` may also be one of the hub, see `netllm_adapt.checkpoint.hub`.

    Raises:
        ValueError: if there is none, or it is for another task.
    """
    from netllm_adapt.files.writing import recover

    folder = SHIPPED / task if name == "pretrained" else home / name
    if name == "pretrained" and not folder.is_dir():
        raise ValueError(f"This version of netllm ships no checkpoint for {task}.")
    for place in (folder, folder / "best"):
        recover(place)
        if (place / "config.json").is_file():
            _check_task(task, place)
            return place
    if fetched := fetched_folder(task, name, home=home):
        return fetched
    raise ValueError(
        f"{folder} holds no checkpoint: neither it nor its folder `best` has a config.json. "
        "Give the `--out` folder of a `netllm adapt` that validated at least once, or `pretrained`."
    )


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
    _check_task(task, folder)
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


def _check_task(task: str, folder: Path) -> None:
    found = read_facts(folder).task or task
    if found != task:
        raise ValueError(
            f"{folder / 'config.json'}: the checkpoint was adapted to {found}, not to {task}."
        )
