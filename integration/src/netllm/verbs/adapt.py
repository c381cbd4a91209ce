"""Adapt: one frozen language model learns one task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.registry import DEFAULT_BACKBONE
from netllm.task.fields import changed
from netllm.verbs.plan import tell

if TYPE_CHECKING:
    from netllm_adapt import Adapted, Recipe
    from netllm_adapt.training.trackers import Tracker

    from netllm.task import Task


def adapt(
    task: str,
    *,
    out: str | Path,
    pool: str | Path | None = None,
    backbone: str = DEFAULT_BACKBONE,
    setting: str | None = None,
    recipe: Recipe | None = None,
    start: str | Path | None = None,
    target_return: float | None = None,
    validation: int | None = None,
    resume: bool = False,
    data: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    device: str = "auto",
    shard: bool = False,
    tracker: Tracker | None = None,
    trust_backbone: bool = False,
    **changes: Any,
) -> Adapted:
    """Adapt a frozen language model to a task; keep the checkpoint that validates best (vp: last).

    Every task has a recipe of its own: `netllm adapt TASK --help` shows it.

    Args:
        task: What is adapted to, such as abr.
        out: Folder of the run; must be new or empty unless the run is resumed.
        pool: What is learned from, made by rl_collect; a supervised task (vp) learns from the
            training part of its setting.
        backbone: A name of `netllm backbone list`, a model id or a folder; random-NAME is the same
            network with random weights, scratch a small one that is trained whole.
        setting: Where it is validated; the pool's own setting unless given, on the kind of data,
            real or generated, that the pool was collected on.
        recipe: How the model is trained; by the task's best known recipe unless given.
        start: A checkpoint to learn on from, in place of a fresh adapter; its backbone is kept.
        target_return: Return asked for at an episode's start; of the task's candidates the one
            that validates best unless given.
        validation: Episodes of the validation part to validate on, which choose the checkpoint
            (vp keeps the last); the task's usual number unless given.
        resume: Continue a run that was cut off, with the arguments that it was begun with; files
            may lie elsewhere.
        data: Folder of real data; that of NETLLM_DATA unless given.
        set: Fields of the setting to override; the pool's own overrides unless given.
        device: Where models compute: cpu, cuda, cuda:1, mps, or auto for a GPU if there is one.
        shard: Of several processes that share the run each keeps a part of the frozen weights,
            for models that are too large to be learned with whole; validations need it whole.
        tracker: What also gets the log, to draw its curves, each an extra of netllm-adapt:
            tensorboard, trackio, or wandb, which stays offline unless WANDB_MODE is set.
        trust_backbone: Load, and fetch, a checkpoint's backbone from wherever the checkpoint says;
            without it only known ones are loaded.
        changes: Fields of the recipe to replace, such as `steps=100`.

    Raises:
        ValueError: for unknown names and values that cannot be, a pool of another task or of mixed
            worlds, an `out` that holds something else, or a run to resume that was begun
            otherwise.
        ModuleNotFoundError: if the tracker is not installed.
        FileExistsError: if `out` is a file, or holds something else than a run.
        OSError: if `out` cannot be written, before anything is loaded.
    """
    from netllm.verbs.describe_run import describe, inputs_of
    from netllm.verbs.pool_setting import read_origin
    from netllm.verbs.validation import check_target, validated

    found = registry.task(task)
    chosen = changed(recipe or found.recipe(backbone), changes)
    check_run(Path(out), resume=resume, device=device, tracker=tracker)
    check_target(found, target_return)
    origin = read_origin(found, pool, set)
    place = origin.setting(setting, data)
    experience = found.experience(origin.pool, place, chosen)
    begun = _begun(task, start, trust_backbone=trust_backbone)
    learned: Any = {"experience": experience, "validation": validation}
    model = begun or _fresh(found, place, backbone, chosen, device=device, **learned)
    count = found.validation if validation is None else validation
    describe(model, origin, place, recipe=chosen, device=device, validation=count)
    how = validated(found, model, place, count, experience, target_return)
    how |= {"inputs": inputs_of(origin, place, count, target_return, start), "recipe": chosen}
    how |= {"device": device, "shard": shard, "tracker": tracker}
    return found.fit(model, experience, out=Path(out), resume=resume, **how)


def check_run(out: Path, *, resume: bool, device: str, tracker: str | None = None) -> None:
    """Raise unless a run can be begun in a folder, or continued, with that device and tracker."""
    from netllm_adapt.device import resolve_device
    from netllm_adapt.training.run_folder import check_out
    from netllm_adapt.training.trackers import check_tracker

    from netllm.verbs.check_writable import check_folder

    resolve_device(device)
    check_tracker(tracker)
    check_out(out, resume=resume)
    check_folder(out)


def _fresh(task: Task, setting: Any, backbone: str, recipe: Recipe, **told: Any) -> Adapted:
    """A model that has learned nothing yet; what the run takes is told before it is loaded."""
    from netllm.task.build_model import build_model

    tell(task, setting, backbone, recipe, **told)
    return build_model(task, setting, backbone, recipe)


def _begun(task: str, start: str | Path | None, *, trust_backbone: bool) -> Adapted | None:
    """The model of the checkpoint `start`, ready to learn on; None if there is none."""
    from netllm_adapt import Adapted

    from netllm.deciders.checkpoint_folder import checkpoint_folder

    if start is None:
        return None
    folder = checkpoint_folder(task, str(start), home=Path.cwd())
    model = Adapted.from_pretrained(folder, trainable=True, trust_backbone=trust_backbone)
    model.about["started from"] = str(start)
    return model
