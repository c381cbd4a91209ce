"""Plan: what adapting a backbone takes, and what makes it fit, before anything is loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.registry import DEFAULT_BACKBONE
from netllm.task.fields import changed

if TYPE_CHECKING:
    from netllm_adapt import Recipe
    from netllm_adapt.planning.memory import Place, Plan
    from netllm_adapt.planning.remedies import Change

    from netllm.task import Task

_log = logging.getLogger(__name__)
GIB = 2**30
_GPU_CONTEXT = GIB // 2
"""What a GPU's driver and libraries take of it: allowed for, not measured."""


@dataclass(frozen=True)
class Planned:
    """What a run takes, and what makes it fit."""

    plan: Plan
    remedies: Sequence[tuple[Change, Plan]]
    """Changes of the recipe that make it fit, each with what is then taken; none if it fits."""
    seconds_per_step: float | None
    """At the rate that was given; None if none was."""


def plan(
    task: str,
    *,
    backbone: str = DEFAULT_BACKBONE,
    setting: str = "default",
    recipe: Recipe | None = None,
    pool: str | Path | None = None,
    validation: int | None = None,
    gpus: str | None = None,
    tflops: float | None = None,
    device: str = "auto",
    data: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Planned:
    """What `netllm adapt` takes with the same options, and what makes it fit; nothing is loaded.

    Memory by part and operations of a step, from the backbone's configuration alone.

    Args:
        task: What is adapted to, such as abr.
        backbone: A name of `netllm backbone list`, a model id, a folder, of which config.json is
            enough, or that file.
        setting: Where it is validated.
        recipe: How the model is trained; by the task's best known recipe unless given.
        pool: What is learned from, whose longest episode counts; as long as the recipe allows
            unless given.
        validation: Episodes of the validation part, which are decided side by side; the task's
            usual number unless given.
        gpus: Number and memory of GPUs, such as 1x24 for one of 24 GiB; several share a run, and
            each holds the whole model. What `--device` names of this machine unless given.
        tflops: What a device sustains, in 1e12 operations a second, to tell a step's time.
        device: Where models would compute: cpu, cuda, cuda:1, mps, or auto for a GPU if there is
            one.
        data: Folder of real data; that of NETLLM_DATA unless given.
        set: Fields of the setting to override.
        changes: Fields of the recipe to replace, such as `steps=100`.

    Raises:
        ValueError: for unknown names and values that cannot be.
        FileNotFoundError: if there is no such backbone or pool.
    """
    found = registry.task(task)
    chosen = changed(recipe or found.recipe(backbone), changes)
    if tflops is not None and not tflops > 0:
        raise ValueError(f"`tflops` must be above 0, got {tflops}.")
    place = _gpus(gpus) if gpus is not None else this_machine(device)
    world = found.setting(setting, data=data, **(set or {}))
    experience = None if pool is None else found.experience(Path(pool), world, chosen)
    whole, fitting = planned(
        found, world, backbone, chosen, place, experience=experience, validation=validation
    )
    rate = None if tflops is None else tflops * 1e12 * place.count
    return Planned(whole, fitting, None if rate is None else whole.flops_per_step / rate)


def planned(
    task: Task,
    setting: Any,
    backbone: str,
    recipe: Recipe,
    place: Place,
    *,
    experience: Any,
    validation: int | None,
) -> tuple[Plan, Sequence[tuple[Change, Plan]]]:
    """What a run takes, and changes that make it fit if it does not."""
    from netllm_adapt import Pool
    from netllm_adapt.planning.memory import make_plan
    from netllm_adapt.planning.remedies import remedies

    from netllm.task.build_model import build_model

    build = partial(build_model, task, setting, backbone, empty=True)
    steps = experience.longest if isinstance(experience, Pool) else None
    sessions = validation or task.validation or 1
    of = partial(make_plan, build, place=place, steps=steps)
    whole = of(recipe, sessions=sessions)
    scratch = backbone.startswith("scratch")
    return whole, () if whole.fits else remedies(of, recipe, sessions=sessions, frozen=not scratch)


def tell(
    task: Task, setting: Any, backbone: str, recipe: Recipe, *, device: str, **learned: Any
) -> None:
    """Log what a run will take; as a warning, with what makes it fit, if that is too much.

    `learned` is `experience` and `validation`, as `planned` takes them.
    """
    from netllm.task.build_model import SCRATCH

    if backbone in SCRATCH:  # it is chosen to be small
        return
    place = this_machine(device)
    try:
        whole, fitting = planned(task, setting, backbone, recipe, place, **learned)
    except Exception as error:  # whatever others' parts make of tensors without memory
        _log.info("What this run takes cannot be told before it is loaded: %s", error)
        return
    told = f"This run takes about {gib(whole.peak)} of {gib(whole.available)}"
    if whole.fits:
        _log.info("%s of memory.", told)
    else:
        _log.warning("%s of memory. %s", told, advice(fitting))


def advice(fitting: Sequence[tuple[Change, Plan]]) -> str:
    """What makes a run fit, in words."""
    if not fitting:
        return "No option of `netllm adapt` makes it fit: take a smaller backbone."
    return f"It fits with {'; or '.join(f'{flags(c)} ({gib(p.peak)})' for c, p in fitting)}."


def flags(change: Change) -> str:
    """A change of the recipe as options of `netllm adapt`."""
    told = []
    for name, value in change.items():
        option = f"--{name.replace('_', '-')}"
        if value is not None:
            told.append(option if value is True else f"{option} {value}")
    return " ".join(told)


def gib(count: float) -> str:
    """Bytes in GiB."""
    return f"{count / GIB:.2f} GiB"


def this_machine(device: str) -> Place:
    """A device of this machine, and what this process has taken of it already."""
    import psutil
    import torch
    from netllm_adapt.device import resolve_device
    from netllm_adapt.planning.memory import Place

    where = resolve_device(device)
    if where.type == "cuda":
        return Place("cuda", torch.cuda.get_device_properties(where).total_memory, _GPU_CONTEXT)
    return Place(where.type, psutil.virtual_memory().total, psutil.Process().memory_info().rss)


def _gpus(text: str) -> Place:
    """The GPUs that a text such as 1x24 names."""
    from netllm_adapt.planning.memory import Place

    match = re.fullmatch(r"([1-9]\d*)x(\d+(?:\.\d+)?)", text)
    if match is None or not float(match[2]):
        raise ValueError(
            "`gpus` must be a number of devices, x and the GiB of each, such as 1x24, "
            f"got {text!r}."
        )
    return Place("cuda", int(float(match[2]) * GIB), _GPU_CONTEXT, int(match[1]))
