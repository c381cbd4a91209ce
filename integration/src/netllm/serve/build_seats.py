"""What a server is told on the command line, made into the tasks' seats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from netllm import registry
from netllm.deciders.policy_spec import PolicySpec
from netllm.serve.seat import Seat
from netllm.task import Task
from netllm.verbs.default_setting import adapted_in


def by_task(option: str, words: Sequence[str], *, known: Sequence[str]) -> dict[str, str]:
    """The values of `TASK=VALUE` words.

    Args:
        option: where they were given, for errors.
        words: the words.
        known: the tasks that they may name.

    Raises:
        ValueError: for a word without `=`, a task given twice, or one that is not known.
    """
    found: dict[str, str] = {}
    for word in words:
        task, equals, value = word.partition("=")
        if not (equals and task and value):
            raise ValueError(f"{option} needs TASK=VALUE, such as abr=…, got {word!r}.")
        if task not in known:
            raise registry.unknown(f"task of {option}", task, known)
        if task in found:
            raise ValueError(f"{option} names {task} twice.")
        found[task] = value
    return found


def seats_of(
    checkpoints: Sequence[str],
    settings: Sequence[str],
    fallbacks: Sequence[str],
    students: Sequence[str] = (),
    when_unsure: Sequence[str] = (),
    **options: Any,
) -> dict[str, Seat]:
    """The seats that `TASK=VALUE` words name; `options` are those of `build_seats`.

    Raises:
        ValueError: as `by_task` and `build_seats` do, and if there is no checkpoint.
    """
    served = by_task("--checkpoint", checkpoints, known=registry.tasks())
    if not served:
        raise ValueError("serve needs a checkpoint, such as --checkpoint abr=pretrained.")
    more: dict[str, Any] = {
        "settings": by_task("--setting", settings, known=[*served]),
        "fallbacks": by_task("--fallback", fallbacks, known=[*served]),
        "students": by_task("--student", students, known=[*served]),
    }
    below = by_task("--when-unsure", when_unsure, known=[*served])
    if lonely := below.keys() - more["students"].keys():
        task = min(lonely)
        raise ValueError(f"--when-unsure {task} needs a student: --student {task}=FILE.")
    more["when_unsure"] = {task: _threshold(task, word) for task, word in below.items()}
    return build_seats(served, **more, **options)


def _threshold(task: str, word: str) -> float:
    try:
        below = float(word)
    except ValueError:
        below = math.nan
    if not below >= 0:
        raise ValueError(f"--when-unsure {task} must be a number that is at least 0, got {word!r}.")
    return below


def build_seats(
    checkpoints: Mapping[str, str],
    *,
    settings: Mapping[str, str],
    fallbacks: Mapping[str, str],
    students: Mapping[str, str] | None = None,
    when_unsure: Mapping[str, float] | None = None,
    data: str | Path | None = None,
    **options: Any,
) -> dict[str, Seat]:
    """The seat of every task that has a checkpoint, ready to decide.

    Args:
        checkpoints: by task a folder, `owner/name` on the hub, or `pretrained`.
        settings: by task the name of its setting; where the checkpoint was adapted if not given.
        fallbacks: by task the name of its fallback; `Task.fallback` if not given.
        students: by task the file of a student that answers, and asks the checkpoint when unsure.
        when_unsure: by task the probability below which a student asks; its file's if not given.
        data: folder of real data; NETLLM_DATA if None.
        options: of a checkpoint's `PolicySpec`: `device`, `trust_backbone`.

    Raises:
        ValueError: for a task that cannot be served, a checkpoint of another task, an unknown
            fallback or none, a student that cannot ask, or a setting that the checkpoint cannot
            serve.
    """
    seats = {}
    for name, checkpoint in checkpoints.items():
        task = registry.task(name)
        fallback = fallbacks.get(name) or task.fallback
        if not fallback:
            raise ValueError(
                f"{name} has no usual fallback. Name one of its policies, which must need no time: "
                f"--fallback {name}=NAME, of {', '.join(registry.policies(name))}."
            )
        spec = PolicySpec(name, checkpoint=checkpoint, **options)
        place = _place(task, spec, settings.get(name), data)
        spec = spec.in_setting(place)
        about: dict[str, Any] = {"checkpoint": checkpoint}
        if students and name in students:
            spec = _behind(spec, place, students[name], (when_unsure or {}).get(name))
            about |= {"student": students[name], "when_unsure": spec.when_unsure}
        seats[name] = Seat(
            task=task,
            setting=place,
            policy=spec.build(place),
            fallback=registry.policy(name, fallback, place),
            fallback_name=fallback,
            about=about,
        )
        seats[name].warm_up()
    return seats


def _behind(spec: PolicySpec, place: Any, student: str, below: float | None) -> PolicySpec:
    """The same behind a student that can ask it."""
    spec = replace(spec, student=student, when_unsure=below)
    spec.declared(place)
    return spec.in_setting(place)


def _place(task: Task, spec: PolicySpec, name: str | None, data: str | Path | None) -> Any:
    """The named setting, or else the one that the checkpoint was adapted in."""
    if name is not None:
        return task.setting(name, data=data)
    name, own = adapted_in(task, spec, {}, data)
    return task.setting(name, data=data, **own)
