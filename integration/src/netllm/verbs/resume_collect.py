"""How much of a collection a pool holds already."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netllm.data import sources

_log = logging.getLogger(__name__)
_DATA = ("data", "sources", "contents")
"""Facts that tell what a collection was made of, not which one it is."""


def held_of(out: Path, facts: Mapping[str, Any], drawn: Sequence[Any], size: int) -> int | None:
    """How many episodes of a collection a pool holds; None if it has not begun.

    Args:
        out: folder of the pool; may be missing.
        facts: what tells the collection from others.
        drawn: its episodes.
        size: how many of them a shard holds.

    Raises:
        ValueError: if it can neither go on nor be complete: others came after it, or it is not
            the first ones that are there; or if it was begun on other data.
    """
    from netllm_adapt.pool import Pool, collections_of

    collections = collections_of(out) if out.is_dir() else []
    wanted = json.loads(json.dumps(facts, default=str))
    for place, (one, held) in enumerate(collections, 1):
        if any(
            name not in one or one[name] != value
            for name, value in wanted.items()
            if name not in _DATA
        ):
            continue
        if held:
            _check_data(out, one, wanted)
        last = place == len(collections)
        if held == len(drawn) or (last and held == 0):
            return held
        if held == 0:
            continue  # another began after it had said that it would
        pool = Pool(out)
        first = len(pool) - held
        if (
            not last
            or held > len(drawn)
            or held % size
            or any(pool[first + i].id != drawn[i].id for i in range(held))
        ):
            raise ValueError(
                f"{out} holds {held:,} of the {len(drawn):,} episodes of this collection "
                "already, and nothing can be added to it. Give another --seed for new episodes."
            )
        return held
    return None


def _check_data(out: Path, begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to take a collection for one that was begun on other data."""
    before, now = (sources.read(one.get("sources")) for one in (begun, wanted))
    if other := sources.differences(before, now):
        raise ValueError(
            f"{out} has this collection already, but made of other data: {sources.told(other)}. "
            "Restore what it was made of, or give another --seed to add episodes of this data."
        )


def warn_of_other_data(out: Path, facts: Mapping[str, Any]) -> None:
    """Tell when a pool has episodes of other data that are called alike."""
    from netllm_adapt.pool import collections_of

    before, _ = sources.joined(one for one, held in collections_of(out) if held)
    now = sources.read(facts.get("sources"))
    pairs = [pair for one in before for pair in sources.differences([one], now)]
    if other := [(then, here) for then, here in pairs if then.name == here.name]:
        told = sources.told(other)
        _log.warning("%s has episodes of other data by the same name: %s.", out, told)
