"""`netllm rl-collect`, `netllm adapt`, `netllm test`."""

# ruff: noqa: PT028 (one of them is called test)

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from netllm import registry
from netllm.commands.answer import Answer
from netllm.commands.options import (
    Assignments,
    Data,
    Names,
    Output,
    RecipeFile,
    Seeds,
    Trust,
    overrides,
)
from netllm.commands.recipe_flags import Recipe
from netllm.commands.recipes import read_recipe, read_task_recipe, recipe_for
from netllm.registry import DEFAULT_BACKBONE
from netllm.verbs.writable import check_folder


def rl_collect(
    task: str,
    /,
    *,
    policy: Names = (),
    checkpoint: Names = (),
    out: Path,
    setting: str = "default",
    episodes: int = 2_048,
    part: str = "train",
    relabel: str | None = None,
    soft: bool = True,
    epsilon: float = 0.0,
    best_of: int = 1,
    seed: int = 0,
    append: Annotated[bool, Parameter(negative=())] = False,
    jobs: int = 1,
    device: str = "auto",
    trust_backbone: Trust = False,
    data: Data = None,
    set_: Assignments = (),
    recipe_file: RecipeFile = None,
    output: Output = Output(),
) -> Answer:
    """Let policies decide, and keep what happened in a pool.

    Args:
        task: What is collected for, such as abr.
        policy: Who decides; several take turns, episode by episode. Also NAME:FILE.npz, with
            weights of one's own, and module:callable.
        checkpoint: Folders of adapted models that decide too, after the policies.
        out: Folder of the pool; must be new or empty unless --append.
        setting: Where they decide.
        episodes: How many episodes.
        part: Part of the setting: train, valid or test.
        relabel: Policy whose answer in every visited state becomes the label to learn.
        soft: Keep that policy's probabilities, where it has them, and not just its answer.
        epsilon: Share of uniformly random actions.
        best_of: Attempts at every episode, of which the one with the highest return is kept.
        seed: Seed of episodes, policies and random actions.
        append: Add to the pool that is there; go on with this collection if it was cut off.
        jobs: Pieces of the collection that run at once; -1 for one per core. Changes no result.
        device: Where models compute: cpu, cuda, cuda:1, mps, or auto for a GPU if there is one.
        trust_backbone: Load, and fetch, a checkpoint's backbone from wherever the checkpoint says.
        data: Folder of real data.
        set_: Override a field of the setting: FIELD=VALUE.
        recipe_file: A TOML file with these options; flags override it.
    """
    from netllm.commands.pool import described
    from netllm.verbs.collect import rl_collect

    pool = rl_collect(
        task,
        policy=policy,
        checkpoint=checkpoint,
        out=out,
        setting=setting,
        episodes=episodes,
        part=part,
        relabel=relabel,
        soft=soft,
        epsilon=epsilon,
        best_of=best_of,
        seed=seed,
        append=append,
        jobs=jobs,
        device=device,
        trust_backbone=trust_backbone,
        data=data,
        set=overrides(set_),
    )
    number = len(pool.provenance["collections"])
    recipe = out / ("recipe.toml" if number == 1 else f"recipe-{number}.toml")
    return dataclasses.replace(described(pool), recipe=None if recipe.exists() else recipe)


def adapt_command(
    task: str,
    /,
    *,
    out: Path,
    pool: Path | None = None,
    backbone: str = DEFAULT_BACKBONE,
    setting: str | None = None,
    start: Path | None = None,
    target_return: float | None = None,
    validation: int | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    device: str = "auto",
    trust_backbone: Trust = False,
    data: Data = None,
    set_: Assignments = (),
    recipe_file: RecipeFile = None,
    recipe: Annotated[Recipe, Parameter(name="*", group="Recipe")] = Recipe(),
    output: Output = Output(),
) -> Answer:
    """Adapt a frozen language model to a task; keep the checkpoint that validates best (vp: last).

    Every task has a recipe of its own: `netllm adapt TASK --help` shows it.

    Args:
        task: What is adapted to, such as abr.
        out: Folder of the run; must be new unless --resume.
        pool: What is learned from, made by `netllm rl-collect`.
        backbone: A name of `netllm backbone list`, a model id or a folder; random-NAME for random
            weights, scratch for a small network that is trained whole.
        setting: Where it is validated; the pool's own setting unless given.
        start: A checkpoint to learn on from, in place of a fresh adapter on --backbone.
        target_return: Return asked for at an episode's start; the best on validation if not given.
        validation: Episodes of the validation part to validate on, which choose the checkpoint,
            but for vp, which keeps the last; the task's usual number if not given.
        resume: Continue a run that was cut off.
        device: Where models compute: cpu, cuda, cuda:1, mps, or auto for a GPU if there is one.
        trust_backbone: Load, and fetch, a checkpoint's backbone from wherever the checkpoint says.
        data: Folder of real data.
        set_: Override a field of the setting: FIELD=VALUE.
        recipe_file: A TOML file with these options; flags override it.
        recipe: How the model is trained.
    """
    from netllm.verbs.adapt import adapt, overrides_of
    from netllm.verbs.default_setting import test_command

    given = overrides(set_) if set_ else None
    model = adapt(
        task,
        out=out,
        pool=pool,
        backbone=backbone,
        setting=setting,
        recipe=recipe_for(task, backbone, recipe),
        start=start,
        target_return=target_return,
        validation=validation,
        resume=resume,
        device=device,
        trust_backbone=trust_backbone,
        data=data,
        set=given,
    )
    kept = "best" if registry.task(task).chooses else "last"
    found = out / "best"
    again = test_command(task, out, overrides_of(task, pool, given), data)
    return Answer(
        {"task": task, "kept": kept, "checkpoint": found, "about": model.about},
        f"The {kept} checkpoint is {found}. Test it: {again}",
        recipe=out / "recipe.toml",
    )


adapt = App(name="adapt", config=[read_recipe, read_task_recipe])
adapt.default(adapt_command)


def test(
    task: str,
    /,
    *,
    policy: Names = (),
    checkpoint: Names = (),
    setting: Names = (),
    part: str = "test",
    seeds: Seeds = (),
    episodes: int | None = None,
    jobs: int = 1,
    device: str = "auto",
    trust_backbone: Trust = False,
    update_card: Annotated[bool, Parameter(negative=())] = False,
    data: Data = None,
    set_: Assignments = (),
    out: Path | None = None,
    recipe_file: RecipeFile = None,
    output: Output = Output(),
) -> Answer:
    """Compare policies and checkpoints on the same episodes, in pairs.

    Args:
        task: What is tested, such as abr.
        policy: Names of policies, NAME:FILE.npz for one with weights of one's own, or
            module:callable. If neither these nor checkpoints are given, the usual rivals; one that
            cannot be built in a setting is left out with a note.
        checkpoint: Folders of runs or checkpoints, or patterns such as 'runs/seed-*';
            `pretrained` is the one shipped with netllm, owner/name one on the model hub, if no
            folder is called so. Those of one recipe are also reported over their training seeds.
        setting: Where they decide; if not given, where the checkpoints were adapted, with their own
            overrides, or else in default.
        part: Part of the setting: train, valid or test.
        seeds: Seeds of random streams, and of episodes where the task draws them.
        episodes: Only the first so many episodes.
        jobs: Pieces of work at once, each in its own process; -1 for one per core.
        device: Where models compute: cpu, cuda, cuda:1, mps, or auto for a GPU if there is one.
        trust_backbone: Load, and fetch, a checkpoint's backbone from wherever the checkpoint says.
        update_card: Write the results into the README.md of every checkpoint, in place of earlier
            ones of the same setting.
        data: Folder of real data.
        set_: Override a field of the settings: FIELD=VALUE.
        out: Folder for results.json and plots.
        recipe_file: A TOML file with these options; flags override it.
    """
    from contextlib import ExitStack
    from functools import partial

    from netllm_adapt.files.locks import locked

    from netllm.report.plots import save
    from netllm.report.table import show
    from netllm.verbs.test import test

    with ExitStack() as alone:
        if out is not None:
            _check_folder(out)
            alone.enter_context(locked(out))
        report = test(
            task,
            policy=policy,
            checkpoint=checkpoint,
            setting=setting,
            part=part,
            seeds=seeds,
            episodes=episodes,
            jobs=jobs,
            device=device,
            trust_backbone=trust_backbone,
            data=data,
            set=overrides(set_),
            update_card=update_card,
        )
        answer = Answer(report.document(), partial(show, report))
        if out is None:
            return answer
        report.save(out / "results.json")
        save(report, registry.task(task).draws, out)
    return dataclasses.replace(answer, recipe=out / "recipe.toml")


def _check_folder(out: Path) -> None:
    """What stands in the way of results is said before hours of work."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"`--out` must be a folder, got the file {out}.")
    check_folder(out, files=("results.json",))
