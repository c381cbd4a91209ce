"""The verbs as commands, such as `netllm adapt`: options and help are those of the API."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from netllm import registry
from netllm.commands.options import Workers
from netllm.commands.options_from_docstrings import RecipeChanges, options_of
from netllm.commands.printed_answer import Answer
from netllm.commands.recipe_files import read_recipe, read_task_recipe, recipe_for
from netllm.registry import DEFAULT_BACKBONE
from netllm.verbs import adapt as adapting
from netllm.verbs import collect as collecting
from netllm.verbs import distil as distilling
from netllm.verbs import improve as improving
from netllm.verbs import test as testing


@options_of(collecting.rl_collect, workers=Workers)
def rl_collect(task: str, *, out: Path, **options: Any) -> Answer:
    """Collect a pool, and say what is in it."""
    from netllm.commands.pool import described

    pool = collecting.rl_collect(task, out=out, **options)
    number = len(pool.provenance["collections"])
    recipe = out / ("recipe.toml" if number == 1 else f"recipe-{number}.toml")
    return dataclasses.replace(described(pool), recipe=None if recipe.exists() else recipe)


@options_of(adapting.adapt)
def adapt_command(task: str, *, out: Path, **options: Any) -> Answer:
    """Adapt a model, and say how it is tested."""
    from netllm.verbs.default_setting import test_command
    from netllm.verbs.pool_setting import read_origin

    if flags := options.get("recipe"):
        backbone = options.get("backbone", DEFAULT_BACKBONE)
        options["recipe"] = recipe_for(task, backbone, flags)
    model = adapting.adapt(task, out=out, **options)
    found = registry.task(task)
    kept = "best" if found.chooses else "last"
    folder = out / "best"
    origin = read_origin(found, options.get("pool"), options.get("set"))
    again = test_command(task, out, origin.overrides, options.get("data"))
    return Answer(
        {"task": task, "kept": kept, "checkpoint": folder, "about": model.about},
        f"The {kept} checkpoint is {folder}. Test it: {again}",
        recipe=out / "recipe.toml",
    )


adapt = App(name="adapt", config=[read_recipe, read_task_recipe])
adapt.default(adapt_command)


@options_of(improving.improve, changes=RecipeChanges, workers=Workers)
def improve(task: str, *, out: Path, **options: Any) -> Answer:
    """Improve a model, and say which round was kept and how it is tested."""
    from netllm.verbs.default_setting import test_command

    given = dataclasses.asdict(options.pop("changes")) if "changes" in options else {}
    changes = {name: value for name, value in given.items() if value is not None}
    model = improving.improve(task, out=out, **options, **changes)
    told = model.about["improved"]
    kept = f"round {told['kept']} of {told['rounds']}"
    if not told["kept"]:
        kept = f"what it began with: none of {told['rounds']} rounds validated better"
    again = test_command(task, out, options.get("set") or {}, options.get("data"))
    folder = out / "best"
    return Answer(
        {"task": task, "kept": told["kept"], "checkpoint": folder, "about": model.about},
        f"Kept is {kept}, in {folder}. Test it: {again}",
        recipe=out / "recipe.toml",
    )


@options_of(distilling.distil)
def distil(task: str, *, out: Path, **options: Any) -> Answer:
    """Make a student, and say how good it is and how it is tested."""
    student = distilling.distil(task, out=out, **options)
    told, metric = student.about, registry.task(task).metrics[0]
    figures = [told[name][metric.key] for name in ("validation", "model")]
    asks = ""
    if "when_unsure" in told:
        asks = f" It asks where its highest probability is below {told['when_unsure']:.3f}."
    return Answer(
        {"task": task, "student": student.file, "about": told},
        f"The student is {student.file}, of round {told['round']}: on validation {metric.label} "
        f"{figures[0]:.4f}, the model's {figures[1]:.4f}.{asks} Test it: netllm test {task} "
        f"--policy student:{student.file}",
        recipe=out / "recipe.toml",
    )


ReportFolder = Annotated[Path | None, Parameter(help="Folder for results.json and plots.")]


@options_of(testing.test, but={"rivals"}, out=ReportFolder, workers=Workers)
def test(task: str, *, out: Path | None = None, **options: Any) -> Answer:  # noqa: PT028
    """Test, and write results and plots where they are wanted."""
    from netllm_adapt.files.locks import locked

    from netllm.report.plots import save
    from netllm.verbs.check_writable import check_folder

    with ExitStack() as alone:
        if out is not None:
            check_folder(out, files=("results.json",))
            alone.enter_context(locked(out))
        report = testing.test(task, **options)
        answer = Answer(report.document(), report.show)
        if out is None:
            return answer
        report.save(out / "results.json")
        save(report, registry.task(task).draws, out)
    return dataclasses.replace(answer, recipe=out / "recipe.toml")
