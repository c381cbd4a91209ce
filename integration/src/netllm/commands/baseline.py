"""`netllm train-baseline`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from netllm import registry
from netllm.commands.options import (
    Assignments,
    Data,
    Names,
    Output,
    RecipeFile,
    overrides,
)
from netllm.commands.printed_answer import Answer
from netllm.report.provenance import command_line
from netllm.verbs.check_arguments import check_count
from netllm.verbs.check_writable import check_file

FIXED = ("setting", "out", "steps", "seed", "recipe", "command")
"""Arguments of a trainer that are no fields of its recipe."""


def train_baseline(
    task: str,
    name: str,
    /,
    *,
    out: Path,
    setting: str = "default",
    steps: int | None = None,
    seed: int = 0,
    train: Names = (),
    data: Data = None,
    set_: Assignments = (),
    recipe_file: RecipeFile = None,
    output: Output = Output(),
) -> Answer:
    """Train a learned rival, and write its weights; FILE.toml beside them repeats it.

    Args:
        task: The task, such as abr.
        name: The rival, such as ppo; `netllm list` names them.
        out: File of the weights.
        setting: Where it is trained.
        steps: Decisions to learn from; the trainer's own number unless given.
        seed: Of everything random.
        train: Other settings of the training: FIELD=VALUE; `netllm train-baseline TASK NAME --help`
            lists them.
    """
    from pkgutil import resolve_name

    from netllm_adapt.files.locks import locked

    found = registry.task(task)
    if name not in found.trainers:
        raise registry.unknown(f"trainable {task} baseline", name, found.trainers)
    place = found.setting(setting, data=data, **overrides(set_))
    fields = overrides(train, fixed=FIXED, option="--train")
    if out.suffix not in registry.WEIGHTS:
        raise ValueError(f"`--out` must end with {' or '.join(registry.WEIGHTS)}, got {out}.")
    check_count("--steps", steps)
    check_file(out)
    options: dict[str, Any] = {} if steps is None else {"steps": steps}
    command = command_line()
    trainer = resolve_name(found.trainers[name])
    with locked(out, file=True):
        trainer(place, out=out, seed=seed, command=command, **options, **fields)
    return Answer(
        {"task": task, "policy": name, "setting": setting, "weights": out},
        f"Trained {name} on {setting}: {out}",
        recipe=out.with_suffix(".toml"),
    )
