"""Distil: a small network learns to answer as an adapted model does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from netllm_adapt.files.reading import read_json

from netllm import registry
from netllm.deciders.checkpoint_folder import weights_of
from netllm.deciders.checkpoint_names import nicknames
from netllm.report.provenance import facts_of
from netllm.verbs import check_arguments
from netllm.verbs.adapt import check_run
from netllm.verbs.default_setting import trained_in
from netllm.verbs.describe_run import inputs_of
from netllm.verbs.distilling.rounds import Rounds
from netllm.verbs.pool_setting import Origin
from netllm.verbs.take_turns import deciding

if TYPE_CHECKING:
    from netllm.task import Task


@dataclass(frozen=True)
class Student:
    """A small network that learned to answer as an adapted model does."""

    file: Path
    """Its weights."""
    about: Mapping[str, Any]
    """How it was made, and its figures on validation beside the model's."""


def distil(
    task: str,
    *,
    checkpoint: str | Path,
    out: str | Path,
    rounds: int = 4,
    episodes: int = 256,
    most_asked: float = 0.15,
    setting: str | None = None,
    validation: int | None = None,
    seed: int = 0,
    resume: bool = False,
    data: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    device: str = "auto",
    trust_backbone: bool = False,
) -> Student:
    """Make a small network that answers as an adapted model does; keep the best round's.

    In the first round the model plays training episodes, in the others the student as it is by
    then; the model says in every state with which probability it would have given each answer, and
    the student learns from the states of all rounds so far (DAgger, Ross et al., AISTATS 2011). Of
    a task of predictions (vp) it learns what the model predicts in each round's episodes. It
    is then chosen on validation below which probability of its own the student is to ask the model.
    `log.jsonl` has a line per round.

    Args:
        task: What the model was adapted to; abr and vp have a student.
        checkpoint: The model: a run's folder, a checkpoint's, or `pretrained`.
        out: Folder of the run; must be new or empty unless the run is resumed. The student is its
            file student.npz, a policy that is named student:FOLDER/student.npz.
        rounds: How often the model is asked, and the student learns. A run may be resumed with
            more.
        episodes: How many are played in each round.
        most_asked: Largest share of decisions on validation that may reach the model, where the
            student asks it when unsure.
        setting: Where it plays and is validated; where the checkpoint was adapted unless given.
        validation: Episodes of the validation part to validate on; the task's usual number unless
            given.
        seed: Of everything random.
        resume: Continue a run that was cut off, with the arguments that it was begun with; files
            may lie elsewhere.
        data: Folder of real data; that of NETLLM_DATA unless given.
        set: Fields of the setting to override, on top of the checkpoint's own if no setting is
            given.
        device: Where the model computes: cpu, cuda, cuda:1, mps, or auto for a GPU if there is one.
        trust_backbone: Load, and fetch, a checkpoint's backbone from wherever the checkpoint says;
            without it only known ones are loaded.

    Raises:
        ValueError: for a task without student, unknown names and values that cannot be, a
            checkpoint of another task, or a run to resume that was begun otherwise.
        FileExistsError: if `out` is a file, or holds something else than such a run.
        OSError: if `out` cannot be written, before anything is played.
    """
    found = registry.task(task)
    _check(found, {"rounds": rounds, "episodes": episodes, "validation": validation}, most_asked)
    check_run(Path(out), resume=resume, device=device)
    _check_own(Path(out))
    start = deciding(task, (), checkpoint, device=device, trust_backbone=trust_backbone)[0]
    name, fields = trained_in(found, start, setting, set or {}, data)
    place = found.setting(name, data=data, **fields)
    start = start.in_setting(place)
    run = Rounds(
        task=found,
        place=place,
        teacher=lambda: start.build(place),
        make=resolve_name(found.student),
        out=Path(out),
        seed=seed,
        episodes=episodes,
        validation=found.validation if validation is None else validation,
    )
    numbers = {"episodes": episodes, "seed": seed, "most_asked": most_asked}
    return _carried_out(run, rounds, str(checkpoint), fields, numbers, resume=resume)


def _carried_out(
    run: Rounds,
    rounds: int,
    checkpoint: str,
    fields: Mapping[str, Any],
    numbers: Mapping[str, Any],
    *,
    resume: bool,
) -> Student:
    """The student, after so many rounds.

    Args:
        run: all that the rounds have in common.
        rounds: how many.
        checkpoint: the model, as it was named.
        fields: those of the setting that are overridden.
        numbers: of the recipe, which a resumed run must agree with.
        resume: whether it may go on from what is there.
    """
    from netllm_adapt.training.run_folder import open_run

    name, weights = run.task.name, weights_of(run.task.name, checkpoint)
    origin = Origin(run.task, None, [], fields, overridden=True)
    settings = {
        "recipe": numbers,
        "spec": {"student": run.task.student},
        "inputs": inputs_of(origin, run.place, run.validation, None, checkpoint),
        "distil": {"task": name},
    }
    about = {
        **facts_of(name, run.place, [], fields),
        **numbers,
        "of": nicknames([checkpoint])[0],
        "weights": weights,
    }
    with open_run(run.out, settings, resume=resume):
        if (played := len(run.lines())) > rounds:
            raise ValueError(f"`rounds` must be at least the {played} played, got {rounds}.")
        for number in range(1, rounds + 1):
            run.play(number)
        kept = run.out / "student.json"
        if not (played == rounds and kept.exists()):
            run.finish(about, kept, most_asked=numbers["most_asked"])
        return Student(run.out / run.file, read_json(kept))


def _check_own(folder: Path) -> None:
    """Raise if a folder holds the run of another command, which has the same files."""
    settings = folder / "settings.json"
    if settings.is_file() and "distil" not in read_json(settings):
        raise FileExistsError(
            f"{folder}: must be a run of `netllm distil` to be resumed, got one of another "
            "command. Choose another --out."
        )


def _check(task: Task, counts: Mapping[str, int | None], most_asked: float) -> None:
    """Raise unless the task has a student, and the numbers can be."""
    if not task.student:
        able = [name for name in registry.tasks() if registry.task(name).student]
        raise ValueError(
            f"{task.name} has no student: a model can be distilled where the task names one, which "
            f"{', '.join(able)} do."
        )
    for name, count in counts.items():
        check_arguments.check_count(name, count)
    if not 0 < most_asked <= 1:
        raise ValueError(f"`most_asked` must be above 0 and at most 1, got {most_asked}.")
