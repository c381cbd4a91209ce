"""What a checkpoint says of its making, and what a resumed run must agree with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.data import sources
from netllm.deciders.checkpoint_folder import weights_of
from netllm.report.provenance import device_name, facts_of, nameable
from netllm.verbs.pool_setting import Origin
from netllm.verbs.validation import VALIDATION_SEED

if TYPE_CHECKING:
    from netllm_adapt import Adapted, Recipe
    from netllm_adapt.checkpoint.config import DataIdentity


def describe(
    model: Adapted,
    origin: Origin,
    setting: Any,
    *,
    recipe: Recipe,
    device: str,
    validation: int | None,
) -> None:
    """Note on a model what it is made of, how, and on which data.

    Args:
        model: before training.
        origin: what it learns from.
        setting: where it is validated.
        recipe: how it is trained.
        device: where, as asked for.
        validation: how many episodes it is validated on; all if None.
    """
    model.identity = _identity(origin, setting, validation, model)
    model.about |= facts_of(origin.task.name, setting, origin.collections, origin.overrides)
    model.about |= {"device": device_name(device), "recipe": dataclasses.asdict(recipe)}


def inputs_of(
    origin: Origin,
    setting: Any,
    validation: int | None,
    target_return: float | None,
    start: str | Path | None,
) -> dict[str, Any]:
    """What a resumed run must agree with beside recipe and experience."""
    return {
        "setting": setting.name,
        "data": sources.world(setting),
        "sources": {one.kind: str(one) for one in sources.sources(setting)},
        "overrides": nameable(origin.overrides),
        "validation": validation,
        "target return": target_return,
        "start": None if start is None else weights_of(origin.task.name, str(start)),
    }


def _identity(origin: Origin, setting: Any, count: int | None, model: Adapted) -> DataIdentity:
    """What a checkpoint keeps of its data, so that a test can tell what it knows already."""
    from netllm_adapt.checkpoint.config import DataIdentity

    task, before = origin.task, model.identity
    made_of, learned = sources.joined(origin.collections)
    if task.supervised:
        made_of = sources.sources(setting)
        learned = sources.contents(task.episodes(setting, "train", count=None, seed=0))
    valid = sources.contents(task.episodes(setting, "valid", count=count, seed=VALIDATION_SEED))
    frozen = sources.backbone(model.spec.name)
    made_of = [*(made_of or sources.sources(setting)), *([frozen] if frozen else [])]
    return DataIdentity(
        sources=sources.kept(made_of),
        learned=sorted({*learned, *before.learned}),
        validated=sorted({*valid, *before.validated}),
    )
