"""Sweep: many adaptations, whose recipes a search chooses by their validation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netllm import registry
from netllm.task.fields import changed
from netllm.verbs import check_arguments
from netllm.verbs.adapt import adapt
from netllm.verbs.sweeping.search_space import SearchSpace
from netllm.verbs.sweeping.trials import RUN, STORAGE, Trials

PLACES = ("data", "device", "tracker", "trust_backbone")
"""Options of adapt that a sweep may go on with otherwise."""


@dataclass(frozen=True)
class SweptRun:
    """One trial of a sweep."""

    run: Path
    changes: Mapping[str, Any]
    """The fields of the recipe that it chose."""
    figure: float
    """The task's first metric on validation."""


def sweep(
    task: str,
    *,
    search: Mapping[str, Any],
    out: str | Path,
    trials: int = 20,
    storage: str | None = None,
    search_seed: int = 0,
    **options: Any,
) -> list[SweptRun]:
    """Adapt with recipes that a search chooses (Optuna's TPE); give the runs, the best first.

    Each trial is a run of `adapt` in a folder of its own. The same call goes on with a sweep that
    was cut off, in the runs that were cut off too, and adds trials where `trials` is more. The same
    call from several processes shares the trials among them, and takes over those of one that dies.

    Args:
        task: What is adapted to, such as abr.
        search: By field of the recipe what it may be: a list of values, or `low`, `high` and
            perhaps `log` (both ends are included; whole numbers if both are).
        out: Folder of the sweep; must be new, empty or hold this sweep.
        trials: How many there are to be, with those of earlier calls.
        storage: URL of a database for Optuna, where workers share no disk; a SQLite file in the
            folder unless given.
        search_seed: Of the search.
        options: Arguments of `adapt` for every trial, and fields of the recipe that are not
            searched.

    Raises:
        ModuleNotFoundError: if Optuna is not installed (extra `sweep`).
        ValueError: for unknown names and values that cannot be, a damaged storage, or a sweep that
            was begun with others.
        FileExistsError: if `out` holds something else.
    """
    found = registry.task(task)
    check_arguments.check_count("trials", trials)
    check_arguments.check_seed("search_seed", search_seed)
    recipe = found.recipe(options.get("backbone"))
    space = SearchSpace.read(search, recipe)
    fields = options.keys() - trial_options()
    changed(recipe, {name: options[name] for name in fields})
    if both := sorted({*search} & {*options}):
        raise ValueError(f"{both[0]} must be searched or given, not both.")
    folder, metric = Path(out).absolute(), found.metrics[0]
    _check_folder(folder)
    own = {name: value for name, value in options.items() if name not in PLACES}
    shared = Trials(
        folder,
        storage,
        maximise=metric.higher_is_better,
        settings={"task": task, "search": search, **own},
        seed=search_seed,
    )

    def work(trial: Any, run: Path) -> float:
        changes = space.suggest(trial)
        begun = (run / "settings.json").is_file()
        model = adapt(task, out=run, resume=begun, **{**options, **changes})
        trial.set_user_attr("changes", changes)
        return float(model.about[f"validation {metric.key}"])

    shared.run(trials, work)
    return _ranked(shared, maximise=metric.higher_is_better)


def trial_options() -> set[str]:
    """The arguments of `adapt` that all trials of a sweep have alike."""
    own = {"task", "out", "resume", "recipe", "changes"}
    return inspect.signature(adapt).parameters.keys() - own


def _check_folder(folder: Path) -> None:
    from netllm_adapt.files.writing import check_replaceable

    check_replaceable(folder, "a sweep", ours=_holds_sweep)
    folder.mkdir(parents=True, exist_ok=True)


def _holds_sweep(folder: Path) -> bool:
    return (folder / STORAGE).is_file() or any(folder.glob(f"{RUN}*"))


def _ranked(shared: Trials, *, maximise: bool) -> list[SweptRun]:
    runs = [
        SweptRun(shared.folder(one), one.user_attrs["changes"], one.value)
        for one in shared.study.get_trials()
        if one.value is not None
    ]
    return sorted(runs, key=lambda one: one.figure, reverse=maximise)
