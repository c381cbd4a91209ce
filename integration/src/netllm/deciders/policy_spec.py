"""Who decides: a policy by name, or a checkpoint by folder, small enough for other processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from netllm.deciders.checkpoint_folder import (
    PRETRAINED,
    SHIPPED,
    Facts,
    checkpoint_folder,
    read_facts,
    weight_files,
)
from netllm.deciders.checkpoint_names import Lineage, found_checkpoints, lineages
from netllm.deciders.when_unsure import WhenUnsure, check_gives_probabilities
from netllm.registry import WEIGHTS, policy, task
from netllm.task import Declared, Policy, Task, declared

if TYPE_CHECKING:
    from netllm_adapt import Adapted
    from netllm_sims.data_sources import Source


@dataclass(frozen=True)
class PolicySpec:
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
    usual: bool = False
    """Whether nobody named it: it decides only in settings whose usual rival it is."""
    home: Path = field(default_factory=Path.cwd)
    """Where names of modules and folders begin; another process may work elsewhere."""
    student: str | None = None
    """File of a student that decides in the checkpoint's place, and asks it when unsure."""
    when_unsure: float | None = None
    """Below which highest probability it asks; what the file says if None."""
    plan: int | None = None
    """By how many simulations of a candidate the checkpoint's decisions are planned."""
    folder: Path | None = None
    """Where a checkpoint of the hub was fetched to, or the shipped one of a setting lies."""

    @property
    def name(self) -> str:
        """The policy's name, or the checkpoint's nickname."""
        if self.student is not None:
            told = "" if self.when_unsure is None else f" below {self.when_unsure:.4g}"
            return f"{replace(self, student=None).name} when unsure{told}"
        if self.plan is not None:
            return f"{replace(self, plan=None).name} plan {self.plan}"
        if self.lineage is not None:
            return self.lineage.nickname
        return self.policy or Path(str(self.checkpoint)).name

    def in_setting(self, setting: Any) -> PolicySpec:
        """The same, or of the shipped checkpoints the one that fits; with its student's threshold.

        Raises:
            ValueError: if the student's file tells no threshold, and none is given.
        """
        spec = self
        if self.checkpoint == PRETRAINED:
            spec = replace(self, folder=SHIPPED / task(self.task).shipped(setting))
        if self.student is None or self.when_unsure is not None:
            return spec
        below = getattr(self._built_student(setting), "when_unsure", None)
        if below is None:
            raise ValueError(
                f"{self.student} does not tell when the student is unsure. Give --when-unsure, or "
                "make a student with `netllm distil`."
            )
        return replace(spec, when_unsure=below)

    def build(self, setting: Any) -> Policy:
        """The policy itself."""
        if self.student is not None:
            model = replace(self, student=None).build(setting)
            below = self.in_setting(setting).when_unsure or 0.0
            return WhenUnsure(self._built_student(setting), model, below=below)
        if self.plan is not None:
            model = replace(self, plan=None).build(setting)
            planned: Policy = planner(task(self.task))(model, setting, draws=self.plan)
            return planned
        if self.policy is not None:
            return policy(self.task, self.policy, setting, home=self.home)
        folder = self.found()
        stamp = (folder / "config.json").stat().st_mtime_ns
        return task(self.task).policy(
            _model(folder, stamp, self.device, self.trust_backbone), setting
        )

    def _built_student(self, setting: Any) -> Policy:
        return policy(self.task, f"student:{self.student}", setting, home=self.home)

    def declared(self, setting: Any) -> Declared:
        """What it says of itself; wrong names fail here, and no model is loaded."""
        if self.checkpoint is not None:
            from netllm_adapt.device import resolve_device

            self.found()
            resolve_device(self.device)
            if self.student is not None:
                check_gives_probabilities(self._built_student(setting))
            if self.plan is not None:
                return declared(planner(task(self.task)))
            return Declared()
        return declared(self.build(setting))

    @property
    def facts(self) -> Facts:
        """What a checkpoint says of its making; of a policy nothing is known."""
        return Facts() if self.checkpoint is None else read_facts(self.task, self.found())

    def found(self) -> Path:
        """The folder of its checkpoint."""
        return self.folder or checkpoint_folder(self.task, str(self.checkpoint), home=self.home)


def policy_specs(
    task: Task,
    policies: Sequence[str],
    checkpoints: Sequence[str],
    rivals: Sequence[str],
    *,
    student: str | None = None,
    when_unsure: Sequence[float] = (),
    plan: int | None = None,
    **options: Any,
) -> list[PolicySpec]:
    """Who is tested: policies, rivals and checkpoints; the task's rivals if nobody is named.

    With a student every checkpoint is tested once more for each threshold: behind it. With `plan`
    it is tested once more as a planner.
    """
    usual = not (policies or checkpoints or rivals)
    if usual:
        rivals = task.rivals
    others = [name for name in rivals if name not in policies]
    models = of_checkpoints(task.name, checkpoints, **options)
    thresholds: Sequence[float | None] = [] if student is None else [*when_unsure] or [None]
    return [
        *(PolicySpec(task.name, policy=name) for name in policies),
        *(PolicySpec(task.name, policy=name, optional=True, usual=usual) for name in others),
        *models,
        *(
            replace(one, student=student, when_unsure=below, lineage=_without_recipe(one))
            for one in models
            for below in thresholds
        ),
        *(
            replace(one, plan=plan, lineage=_without_recipe(one))
            for one in models
            if plan is not None
        ),
    ]


def planner(task: Task) -> Any:
    """What makes a planner of a task's model.

    Raises:
        ValueError: if the task has none.
    """
    if not task.planner:
        raise ValueError(
            f"{task.name} has no planner: its simulator is not asked ahead. Leave --plan out."
        )
    return resolve_name(task.planner)


def _without_recipe(spec: PolicySpec) -> Lineage | None:
    return spec.lineage and replace(spec.lineage, recipe="", seed=None)


def of_checkpoints(task: str, names: Sequence[str], **options: Any) -> list[PolicySpec]:
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
        PolicySpec(
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


def weight_sources(specs: Iterable[PolicySpec]) -> list[Source]:
    """The files that some policies decide by: own weights of policies, and checkpoints."""
    from netllm_sims.data_sources import of_files

    found = []
    for one in specs:
        if one.student is not None:
            path = one.home / Path(one.student).expanduser()
            found.append(of_files("weights of student", path, origin="own"))
        known, _, file = (one.policy or "").partition(":")
        if one.checkpoint is not None:
            folder = one.found()
            files = [str(file.relative_to(folder)) for file in weight_files(folder)]
            kind = f"checkpoint {one.name}"
            found.append(of_files(kind, folder, origin="own", name=one.name, only=files))
        elif Path(file).suffix in WEIGHTS:
            path = one.home / Path(file).expanduser()
            found.append(of_files(f"weights of {known}", path, origin="own"))
    return found
