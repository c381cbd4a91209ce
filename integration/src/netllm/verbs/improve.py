"""Improve: a model plays, its teacher says what it would have done, the model learns on from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from netllm_adapt.checkpoint.config import read_config
from netllm_adapt.files.reading import read_json

from netllm import registry
from netllm.task.fields import changed
from netllm.verbs import check_arguments
from netllm.verbs.adapt import check_run
from netllm.verbs.default_setting import trained_in
from netllm.verbs.describe_run import inputs_of
from netllm.verbs.improving.growing_pool import check_grows, pool_digest
from netllm.verbs.improving.rounds import Rounds
from netllm.verbs.pool_setting import read_origin
from netllm.verbs.take_turns import Turns, deciding, pool_task

if TYPE_CHECKING:
    from netllm_adapt import Adapted, Recipe
    from netllm_adapt.checkpoint.config import Config
    from netllm_adapt.training.trackers import Tracker

    from netllm.deciders.policy_spec import PolicySpec
    from netllm.task import Task

OF_MODEL = (
    *("rank", "alpha", "lora_dropout", "targets", "layers", "dtype", "quantise"),
    *("window", "segment", "returns"),
)
"""Fields of a recipe that a checkpoint has settled."""


def improve(
    task: str,
    *,
    checkpoint: str | Path,
    out: str | Path,
    pool: str | Path | None = None,
    teacher: str | None = None,
    rounds: int = 3,
    episodes: int = 256,
    share: float = 0.75,
    epsilon: float = 0.0,
    soft: bool = True,
    setting: str | None = None,
    validation: int | None = None,
    resume: bool = False,
    jobs: int = 1,
    data: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    device: str = "auto",
    tracker: Tracker | None = None,
    trust_backbone: bool = False,
    **changes: Any,
) -> Adapted:
    """Improve an adapted model in the states that it gets itself into; keep what validates best.

    In every round the model plays new training episodes, a teacher says what it would have done in
    each state, and the model learns on from all episodes so far (DAgger, Ross et al., AISTATS
    2011). What it began with is kept if no round validates better. The recipe of a round is the
    checkpoint's own, with a quarter of the steps of the task's; of its fields `seed` is also that
    of the episodes. `log.jsonl` has a line per round.

    Args:
        task: What is improved: abr, cjs, or another installed task that learns from pools.
        checkpoint: What it begins with: a run's folder, a checkpoint's, or `pretrained`.
        out: Folder of the run; must be new or empty unless the run is resumed.
        pool: Episodes to begin with, such as those that the checkpoint learned from; they are
            copied.
        teacher: Policy whose answers are learned; the task's usual teacher unless given.
        rounds: How often it plays and learns. A run may be resumed with more.
        episodes: How many are played in each round.
        share: Share of them that the model drives; the teacher drives the others.
        epsilon: Share of uniformly random actions.
        soft: Keep the teacher's probabilities, where it has them, and not just its answer.
        setting: Where it plays and is validated; where the checkpoint was adapted unless given.
        validation: Episodes of the validation part to validate on; the task's usual number unless
            given.
        resume: Continue a run that was cut off, with the arguments that it was begun with; files
            may lie elsewhere.
        jobs: Pieces of a collection that run at once, each in its own process; -1 for one per
            core.
        data: Folder of real data; that of NETLLM_DATA unless given.
        set: Fields of the setting to override, on top of the checkpoint's own if no setting is
            given.
        device: Where models compute: cpu, cuda, cuda:1, mps, or auto for a GPU if there is one.
        tracker: What also gets the log of every round: tensorboard, trackio or wandb; see `adapt`.
        trust_backbone: Load, and fetch, a checkpoint's backbone from wherever the checkpoint says;
            without it only known ones are loaded.
        changes: Fields of a round's recipe to replace, such as `steps=100`.

    Raises:
        ValueError: for unknown names and values that cannot be, a checkpoint or pool of another
            task or that does not fit the setting, or a run to resume that was begun otherwise.
        ModuleNotFoundError: if the tracker is not installed.
        FileExistsError: if `out` is a file, or holds something else than such a run.
        OSError: if `out` cannot be written, before anything is played.
    """
    found = pool_task(task)
    _check_numbers(rounds, episodes, share, validation, jobs)
    check_run(Path(out), resume=resume, device=device, tracker=tracker)
    _check_own(Path(out))
    options: Any = {"device": device, "trust_backbone": trust_backbone}
    start = deciding(task, (), checkpoint, **options)[0]
    name, fields = trained_in(found, start, setting, set or {}, data)
    recipe = round_recipe(found, read_config(start.found()), changes)
    origin = read_origin(found, pool, fields)
    labels = {"relabel": teacher or found.teacher, "soft": soft, "epsilon": epsilon}
    where = {"setting": name, "set": fields, "data": data, **options}
    many: Any = {"episodes": episodes, "share": share, "validation": validation, "jobs": jobs}
    many["tracker"] = tracker
    run = Rounds(origin, Path(out), str(checkpoint), recipe, labels, where, **many)
    return _carried_out(run, start, rounds, resume=resume)


def _carried_out(run: Rounds, start: PolicySpec, rounds: int, *, resume: bool) -> Adapted:
    """The checkpoint kept, after so many rounds; what cannot be is told before the first."""
    from netllm_adapt import AdaptedModel
    from netllm_adapt.training.run_folder import open_run

    options = {name: run.where[name] for name in ("device", "trust_backbone")}
    _check_players(run, start)
    model = AdaptedModel.from_pretrained(start.found(), trainable=True, **options)
    run.task.policy(model, run.place)  # which refuses a setting that does not fit
    with open_run(run.out, _settings(run, model), resume=resume):
        run.begin(model, start.found())
        if (played := len(run.lines()) - 1) > rounds:
            raise ValueError(f"`rounds` must be at least the {played} played, got {rounds}.")
        for number in range(1, rounds + 1):
            run.play(number)
    return AdaptedModel.from_pretrained(run.out / "best", **options)


def round_recipe(task: Task, config: Config, changes: Mapping[str, Any]) -> Recipe:
    """How a model learns in a round.

    Args:
        task: says how many steps its best recipe has.
        config: of the checkpoint, which was made by a recipe of its own, if it tells.
        changes: fields to replace.

    Raises:
        ValueError: for a field that there is not, or that the checkpoint has settled.
    """
    best, told = task.recipe(config.backbone.name), config.about.get("recipe")
    names = {field.name for field in dataclasses.fields(best)} - {"steps"}
    given = told if isinstance(told, Mapping) else {}
    own = {key: value for key, value in given.items() if key in names}
    usual = changed(best, {**own, "steps": steps_of_a_round(best.steps)})
    recipe = changed(usual, changes)
    for name in OF_MODEL:
        if name in changes and getattr(recipe, name) != getattr(usual, name):
            raise ValueError(
                f"`{name}` must be the checkpoint's own, {getattr(usual, name)!r}, got "
                f"{getattr(recipe, name)!r}. Leave it out, or adapt anew with `netllm adapt`."
            )
    return recipe


def steps_of_a_round(steps: int) -> int:
    """A quarter of the steps of a task's own recipe."""
    return max(1, steps // 4)


def _check_numbers(
    rounds: int, episodes: int, share: float, validation: int | None, jobs: int
) -> None:
    counts = {"rounds": rounds, "episodes": episodes, "validation": validation}
    for name, count in counts.items():
        check_arguments.check_count(name, count)
    check_arguments.check_jobs(jobs)
    if not 0 <= share <= 1:
        raise ValueError(f"`share` must be within [0, 1], got {share}.")


def _check_own(folder: Path) -> None:
    """Raise if a folder holds the run of another command, which has the same files."""
    settings = folder / "settings.json"
    if settings.is_file() and "improve" not in read_json(settings):
        raise FileExistsError(
            f"{folder}: must be a run of `netllm improve` to be resumed, got one of `netllm "
            "adapt`. Choose another --out."
        )


def _check_players(run: Rounds, start: PolicySpec) -> None:
    """Raise unless the teacher is known and can label, also for the pool to begin with."""
    teacher, task, pool = run.labels["relabel"], run.task, run.origin.pool
    if not teacher:
        known = ", ".join(registry.policies(task.name)) or "module:callable"
        raise ValueError(f"{task.name} names no usual teacher. Give --teacher: {known}.")
    Turns(task.name, run.place, [start], best_of=1, **run.labels).asked()
    if pool is not None:
        policy = registry.policy(task.name, teacher, run.place)
        check_grows(task, pool, run.place, policy, soft=run.labels["soft"])


def _settings(run: Rounds, model: Adapted) -> dict[str, Any]:
    """What a resumed run must agree with; it may have more rounds."""
    own = {"episodes": run.episodes, "share": run.share, **run.labels}
    own["pool"] = None if run.origin.pool is None else pool_digest(run.origin.pool)
    return {
        "recipe": dataclasses.asdict(run.recipe),
        "spec": msgspec.structs.asdict(model.spec),
        "inputs": inputs_of(run.origin, run.place, run.count, None, run.begun_from),
        "improve": own,
    }
