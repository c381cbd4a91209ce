"""How much of a collection a pool holds already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def held_of(out: Path, facts: Mapping[str, Any], drawn: Sequence[Any], size: int) -> int | None:
    """How many episodes of a collection a pool holds; None if it has not begun.

    Args:
        out: folder of the pool; may be missing.
        facts: what tells the collection from others.
        drawn: its episodes.
        size: how many of them a shard holds.

    Raises:
        ValueError: if it can neither go on nor be complete: others came after it, or it is not
            the first ones that are there.
    """
    from netllm_adapt.pool import Pool, collections_of

    collections = collections_of(out) if out.is_dir() else []
    wanted = json.loads(json.dumps(facts, default=str))
    for place, (one, held) in enumerate(collections, 1):
        if any(name not in one or one[name] != value for name, value in wanted.items()):
            continue
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
