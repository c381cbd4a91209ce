"""Adapt: one frozen language model learns one task."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.data import sources
from netllm.registry import DEFAULT_BACKBONE
from netllm.report.intervals import mean_of
from netllm.report.provenance import device_name, nameable, provenance, running_command
from netllm.task import PoolTask, training_fields
from netllm.verbs.checkpoint_folder import checkpoint_folder, weights_of
from netllm.verbs.writable import check_folder

if TYPE_CHECKING:
    from netllm_adapt import Adapted, Recipe
    from netllm_adapt.checkpoint.config import DataIdentity

    from netllm.task import Metric, Task

_log = logging.getLogger(__name__)
ALL_LINEAR = "all-linear"
SCRATCH_LAYERS = 4
FLOAT32_MAX = (2 - 2**-23) * 2.0**127
VALIDATION_SEED = 1
"""Validation episodes are drawn once for all runs, so that recipes can be compared."""


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
    trust_backbone: bool = False,
    **changes: Any,
) -> Adapted:
    """Adapt a language model to a task, and return the checkpoint that is kept.

    It is the one that validated best, or the last where the task does not choose (`vp`).

    Args:
        task: `abr`, `vp`, or another installed task.
        out: folder of the run; must be new or empty unless `resume`.
        pool: what to learn from, made by `rl_collect`; a supervised task learns from the setting.
        backbone: a name that `netllm backbone list` shows, a model id, or a folder;
            `random-<name>` is the same network with random weights, `scratch` a small one without
            any language model, trained whole.
        setting: where to validate; the pool's own setting if None, on the kind of data, real or
            generated, that it was collected on.
        recipe: settings of the training; the task's best known ones if None.
        start: a checkpoint to learn on from, in place of a fresh adapter; its backbone is kept.
        target_return: return that the model is asked for at the start of an episode; if None, the
            one of the task's candidates that validates best.
        validation: episodes of the validation part to validate on, and to choose by; the task's
            usual number if None.
        resume: continue a run that was cut off, with the arguments that it was begun with; files
            may lie elsewhere.
        data: folder of real data; NETLLM_DATA if None.
        set: fields of the setting to override; the pool's own overrides if None.
        device: where it learns and validates: `auto`, `cpu`, `cuda` or `mps`.
        trust_backbone: whether a checkpoint's backbone may be one of a folder or a hub, which is
            fetched; without it only known ones are loaded.
        changes: fields of the recipe to replace, such as `steps=100`.

    Raises:
        ValueError: for unknown names and values that cannot be, a pool of another task or of mixed
            worlds, an `out` that holds something else, or a run to resume that was begun
            otherwise.
        NotADirectoryError: if `out` is a file.
        OSError: if `out` cannot be written, before anything is loaded.
    """
    from netllm_adapt.training.run_folder import check_out

    where = device_name(device)  # what is not here is told before hours of work
    found = registry.task(task)
    chosen = changed(recipe or found.recipe(backbone), changes)
    check_out(Path(out), resume=resume)
    check_folder(Path(out))
    _check_target(found, target_return)
    path = _pool_path(found, pool)
    collections = _collections(task, path)
    overrides = _overrides(set, collections)
    place = _place(found, setting, data, overrides, collections)
    if set is None:
        _check_overrides(place, collections)
        if setting is None:
            _check_world(place, collections)
    _check_sources(place, collections, asked=set is not None or setting is not None)
    for note in sources.notes(place):
        _log.warning("%s", note)
    experience = found.experience(path, place, chosen)
    model: Any = (
        build_model(found, place, backbone, chosen)
        if start is None
        else _start(task, str(start), trust_backbone)
    )
    targets = _targets(found, experience, target_return)
    if targets:
        model.target_return = targets[0]
    count = found.validation if validation is None else validation
    model.identity = _identity(found, place, collections, count, model.identity, model.spec.name)
    facts = facts_of(found, place, collections, overrides)
    model.about |= facts | {"device": where, "recipe": dataclasses.asdict(chosen)}
    validate = validator(found, place, count)
    metric = found.metrics[0]
    inputs = {
        "setting": model.about["setting"],
        "data": sources.world(place),
        "sources": {one.kind: str(one) for one in sources.sources(place)},
        "overrides": nameable(overrides),
        "validation": count,
        "target return": target_return,
        "start": None if start is None else weights_of(task, str(start)),
    }
    return found.fit(
        model,
        experience,
        recipe=chosen,
        out=Path(out),
        validate=validate,
        metric=metric.key,
        maximise=metric.higher_is_better,
        finish=_finish(targets, validate, metric),
        resume=resume,
        inputs=inputs,
        device=device,
    )


def _targets(task: Task, experience: Any, target_return: float | None) -> Sequence[float]:
    """Returns that the model may be asked for: the one that is given, else the task's."""
    if target_return is not None:
        return [target_return]
    return task.target_returns(experience) if isinstance(task, PoolTask) else ()


def _finish(
    targets: Sequence[float], validate: Callable[[Any], dict[str, float]], metric: Metric
) -> Callable[[Any], None] | None:
    """What is left to do with the checkpoint that is kept: nothing where there is no choice."""
    if len(targets) < 2:
        return None
    return partial(choose_target, targets=targets, validate=validate, metric=metric)


def choose_target(
    model: Any,
    targets: Sequence[float],
    validate: Callable[[Any], dict[str, float]],
    metric: Metric,
) -> None:
    """Ask for the return with which the model validates best, and note what it then reached."""
    figures = {}
    for target in targets:
        model.target_return = target
        figures[target] = validate(model)
    sign = 1 if metric.higher_is_better else -1
    model.target_return = max(targets, key=lambda target: sign * figures[target][metric.key])
    reached = figures[model.target_return]
    model.about |= {f"validation {name}": value for name, value in reached.items()}


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with single fields replaced.

    Raises:
        ValueError: for a field that it lacks, with the nearest ones.
    """
    known = {field.name for field in dataclasses.fields(recipe)}
    for name in changes:
        if name not in known:
            raise registry.unknown("field of the recipe", name, known)
    return dataclasses.replace(recipe, **changes)


def _check_target(task: Task, target_return: float | None) -> None:
    """Nothing, if a model can be asked for that return: it is told as a float32."""
    if target_return is None:
        return
    if task.supervised:
        raise ValueError(
            f"adapt {task.name} takes no target return: nothing is asked for but the answer. "
            "Leave --target-return out."
        )
    if not abs(target_return) <= FLOAT32_MAX:
        raise ValueError(
            f"`target_return` must be finite and within ±{FLOAT32_MAX:.4g}, got {target_return}."
        )


def _pool_path(task: Task, pool: str | Path | None) -> Path | None:
    """Where the pool lies, if there is one."""
    if pool is None:
        return None
    if task.supervised:
        raise ValueError(
            f"adapt {task.name} takes no pool: it learns from the training part of its setting. "
            "Leave --pool out; choose the data with --setting, --data or --set."
        )
    return Path(pool)


def _collections(task: str, pool: Path | None) -> list[dict[str, Any]]:
    """What a pool says of its collections: setting, policies, relabelling, overrides."""
    if pool is None:
        return []
    from netllm_adapt import Pool

    about = Pool(pool)
    found = about.info()["task"]
    if found != task:
        raise ValueError(f"{pool}: the pool was collected for {found}, not for {task}.")
    return list(about.provenance.get("collections", []))


def _place(
    task: Task,
    name: str | None,
    data: str | Path | None,
    overrides: Mapping[str, Any],
    collections: Sequence[Mapping[str, Any]],
) -> Any:
    """The setting to validate in: as asked for, else the pool's own."""
    own: Mapping[str, Any] = collections[0] if collections else {}
    if name is None and any(other["setting"] != own["setting"] for other in collections):
        raise ValueError("The pool mixes settings: say where to validate with --setting.")
    return task.setting(name or own.get("setting", "default"), data=data, **overrides)


def overrides_of(
    task: str, pool: str | Path | None, set: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Fields of the setting that `adapt` overrides: those asked for, else the pool's own."""
    return _overrides(set, _collections(task, None if pool is None else Path(pool)))


def _overrides(
    set: Mapping[str, Any] | None, collections: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Fields of the setting to override: those asked for, else the pool's own."""
    if set is not None:
        return dict(set)
    return dict(next((one["overrides"] for one in collections if "overrides" in one), {}))


def _check_overrides(place: Any, collections: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a pool whose collections differ in more than what they were trained on.

    Of a pool that an earlier version began nothing may be known.
    """
    known = [dict(one["overrides"]) for one in collections if "overrides" in one]
    trained = training_fields(place)
    validated = [{k: v for k, v in own.items() if k not in trained} for own in known]
    if any(own != validated[0] for own in validated):
        told = "; ".join(str(own) for own in validated)
        raise ValueError(
            f"The pool mixes overrides ({told}): say where to validate with --set FIELD=VALUE."
        )


def _check_world(place: Any, collections: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to validate on another kind of data than the pool's, if nobody asked for it."""
    worlds = sorted({one["data"] for one in collections if "data" in one})
    if len(worlds) > 1:
        raise ValueError(
            f"The pool mixes {' and '.join(worlds)} data: say where to validate with --setting."
        )
    told = any("sources" in one for one in collections)
    here = sources.world(place) if told else "synthetic" if place.synthetic else "real"
    if worlds and worlds != [here]:
        remedy = (
            "Give real data with --data DIR or NETLLM_DATA, or validate with --setting synthetic."
            if place.synthetic
            else f"Validate with --setting synthetic, or here with --setting {place.name}."
        )
        raise ValueError(
            f"The pool was collected on {worlds[0]} data in {place.name}, but would be validated "
            f"on {here} data. {remedy}"
        )


def _check_sources(place: Any, collections: Sequence[Mapping[str, Any]], *, asked: bool) -> None:
    """Compare the data to validate on with the pool's.

    Raises:
        ValueError: if they differ, though nobody `asked` for others.
    """
    before, _ = sources.joined(collections)
    now = sources.sources(place)
    same = {one.sha256 for one in before}
    other = [pair for pair in sources.differences(before, now) if pair[1].sha256 not in same]
    if not other:
        return
    told = f"The pool was collected on other data than it is validated on: {sources.told(other)}."
    if not asked:
        raise ValueError(
            f"{told} Restore what it was collected on, or say where to validate: --set "
            "FIELD=VALUE or --setting NAME."
        )
    _log.warning("%s", told)


def _identity(
    task: Task,
    place: Any,
    collections: Sequence[Mapping[str, Any]],
    count: int | None,
    before: DataIdentity,
    backbone: str,
) -> DataIdentity:
    """What a checkpoint keeps of its data, so that a test can tell what it knows already.

    Args:
        task: what is adapted to.
        place: where it is validated; of a supervised task, also what is learned from.
        collections: of the pool that is learned from.
        count: of the validation episodes.
        before: the same of the checkpoint that is learned on from, if any.
        backbone: its name.
    """
    from netllm_adapt.checkpoint.config import DataIdentity

    made_of, learned = sources.joined(collections)
    if task.supervised:
        made_of = sources.sources(place)
        learned = sources.contents(task.episodes(place, "train", count=None, seed=0))
    valid = sources.contents(task.episodes(place, "valid", count=count, seed=VALIDATION_SEED))
    frozen = sources.backbone(backbone)
    return DataIdentity(
        sources=sources.kept([*(made_of or sources.sources(place)), *([frozen] if frozen else [])]),
        learned=sorted({*learned, *before.learned}),
        validated=sorted({*valid, *before.validated}),
    )


def _start(task: str, name: str, trust_backbone: bool) -> Adapted:
    """A checkpoint's model, ready to learn on."""
    from netllm_adapt import Adapted

    folder = checkpoint_folder(task, name, home=Path.cwd())
    model = Adapted.from_pretrained(folder, trainable=True, trust_backbone=trust_backbone)
    model.about["started from"] = name
    return model


def build_model(task: Task, setting: Any, backbone: str, recipe: Recipe) -> Adapted:
    """The model before training: frozen backbone, fresh low-rank matrices, encoder and head.

    `scratch` is a small network that is trained whole, with as many trainable parameters as the
    default backbone's adapter, encoder and head have together, within 10 %.
    """
    import torch
    from netllm_adapt import BackboneSpec, add_lora
    from netllm_adapt.backbone import is_scratch
    from netllm_adapt.backbone.spec import embedding_width

    if backbone == "scratch":
        return _scratch(task, setting, recipe)
    spec = BackboneSpec(
        backbone,
        layers=recipe.layers,
        dtype=recipe.dtype,
        seed=recipe.seed,
        quantise=recipe.quantise,
    )
    plain = spec.load()
    width = embedding_width(plain)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return task.assemble(
            recipe,
            backbone=plain
            if is_scratch(backbone)
            else add_lora(
                plain,
                rank=recipe.rank,
                alpha=recipe.alpha,
                targets=ALL_LINEAR
                if recipe.targets == (ALL_LINEAR,)
                else [*recipe.targets] or None,
                dropout=recipe.lora_dropout,
            ),
            encoder=task.encoder(setting, recipe, width=width),
            head=task.head(setting, width=width),
            spec=spec,
        )


def _scratch(task: Task, setting: Any, recipe: Recipe) -> Adapted:
    """The small network whose trainable parameters come closest to the adapter's."""
    layers = task.recipe(DEFAULT_BACKBONE).layers
    usual = dataclasses.replace(recipe, layers=layers, quantise=None)
    model = build_model(task, setting, f"random-{DEFAULT_BACKBONE}", usual)
    wanted = trainable(model)
    own = dataclasses.replace(recipe, layers=None, dtype="float32")
    best = model
    for width in range(16, 512, 16):
        model = build_model(task, setting, f"scratch-{width}x{SCRATCH_LAYERS}", own)
        if width == 16 or abs(trainable(model) - wanted) < abs(trainable(best) - wanted):
            best = model
        if trainable(model) > wanted:
            break
    return best


def trainable(model: Adapted) -> int:
    """How many parameters are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def facts_of(
    task: Task,
    setting: Any,
    collections: Sequence[Mapping[str, Any]],
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """What the checkpoint says of itself: setting, data, teachers, command, versions."""
    drivers = [name for one in collections for name in one.get("policies", [])]
    teachers = [
        name
        for one in collections
        for name in ([one["relabel"]] if one.get("relabel") else one.get("policies", []))
    ]
    return {
        "task": task.name,
        "setting": setting.name,
        "overrides": nameable(overrides),
        "data": sources.described(setting),
        **({"own data": own} if (own := sources.own(setting)) else {}),
        "teachers": list(dict.fromkeys(teachers)),
        "collected by": list(dict.fromkeys(drivers)),
        "pool": "; ".join(_summary(one) for one in collections),
        "command": running_command(),
        **_flat(provenance()),
    }


def _summary(collection: Mapping[str, Any]) -> str:
    """How a part of the pool was collected, in the words of `netllm rl-collect`."""
    names = ("relabel", "soft", "epsilon", "best_of", "seed", "overrides")
    told = {**collection, "overrides": nameable(collection.get("overrides", {}))}
    return ", ".join(f"{name} {told[name]}" for name in names if name in collection)


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    versions = [f"{name} {version}" for name, version in facts["versions"].items()]
    return {**facts, "versions": ", ".join(versions)}


def validator(task: Task, setting: Any, count: int | None) -> Callable[[Adapted], dict[str, float]]:
    """Figures of a model in roll-outs on the validation part."""
    episodes = task.episodes(setting, "valid", count=count, seed=VALIDATION_SEED)

    def validate(model: Adapted) -> dict[str, float]:
        policy = task.policy(model, setting)
        outcome = task.rollout(policy, setting, episodes, seed=VALIDATION_SEED)
        return {
            metric.key: mean_of(outcome.rows, metric.key, ci=False).mean for metric in task.metrics
        }

    return validate
