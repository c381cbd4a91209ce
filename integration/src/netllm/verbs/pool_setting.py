"""Where a model is validated: where its pool was collected, or as asked for, on the same data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.data import sources
from netllm.task import training_fields

if TYPE_CHECKING:
    from netllm.task import Task

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """What a model learns from."""

    task: Task
    pool: Path | None
    """None where a task learns from the training part of its setting."""
    collections: Sequence[Mapping[str, Any]]
    """What the pool says of its collections: setting, policies, relabelling, overrides."""
    overrides: Mapping[str, Any]
    """Fields of the setting to override."""
    overridden: bool
    """Whether somebody asked for these; else they are the pool's own."""

    def setting(self, name: str | None, data: str | Path | None) -> Any:
        """The setting to validate in: as asked for, else the pool's own.

        Raises:
            ValueError: if the pool is of several settings or of other data, though nobody asked
                for another place.
        """
        own: Mapping[str, Any] = self.collections[0] if self.collections else {}
        if name is None and any(one["setting"] != own["setting"] for one in self.collections):
            raise ValueError("The pool mixes settings: say where to validate with --setting.")
        chosen = name or own.get("setting", "default")
        place = self.task.setting(chosen, data=data, **self.overrides)
        if not self.overridden:
            _check_overrides(place, self.collections)
            if name is None:
                _check_world(place, self.collections)
        _check_sources(place, self.collections, asked=self.overridden or name is not None)
        for note in sources.notes(place):
            _log.warning("%s", note)
        return place


def read_origin(task: Task, pool: str | Path | None, set: Mapping[str, Any] | None) -> Origin:
    """What `adapt` learns from, and the fields of the setting that it overrides.

    Args:
        task: what is adapted to.
        pool: its folder.
        set: fields to override; the pool's own if None.

    Raises:
        ValueError: for a pool of another task, or a task that learns from none.
    """
    collections: list[Mapping[str, Any]] = []
    if pool is not None:
        from netllm_adapt import Pool

        if task.supervised:
            raise ValueError(
                f"adapt {task.name} takes no pool: it learns from the training part of its "
                "setting. Leave --pool out; choose the data with --setting, --data or --set."
            )
        about = Pool(pool)
        if about.task != task.name:
            raise ValueError(
                f"{pool}: the pool was collected for {about.task}, not for {task.name}."
            )
        collections = [*about.provenance.get("collections", [])]
    own: Mapping[str, Any] = next(
        (one["overrides"] for one in collections if "overrides" in one), {}
    )
    path = None if pool is None else Path(pool)
    return Origin(task, path, collections, dict(own if set is None else set), set is not None)


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
