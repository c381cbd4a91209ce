"""A collection is written to a pool, from where an earlier, cut-off run of it stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.data import sources
from netllm.deciders.checkpoint_folder import weights_of
from netllm.deciders.policy_spec import weight_sources
from netllm.report.provenance import device_name
from netllm.verbs.check_writable import check_folder
from netllm.verbs.parallel import derived_seed, results
from netllm.verbs.take_turns import Turns

if TYPE_CHECKING:
    from netllm_adapt import PoolWriter

_log = logging.getLogger(__name__)
_DATA = ("data", "sources", "contents")
"""Facts that tell what a collection was made of, not which one it is."""


def check_new(out: Path, *, append: bool) -> None:
    """Raise unless a collection may and can be written there.

    Raises:
        FileExistsError: if it is a file, or holds something, but nothing is to be added.
        OSError: if it cannot be written.
    """
    _check_replaceable(out, append=append)
    check_folder(out)


def _check_replaceable(out: Path, *, append: bool) -> None:
    from netllm_adapt.files.writing import check_replaceable

    check_replaceable(out, "a pool that is added to (`append`)", ours=lambda _: append)


def collected_from(turns: Turns, drawn: Sequence[Any]) -> dict[str, Any]:
    """What the pool remembers of data, weights and device.

    Raises:
        ValueError: if somebody who is asked cannot be built.
    """
    made_of = [*sources.sources(turns.setting), *weight_sources(turns.asked())]
    known = {"sources": sources.kept(made_of), "contents": sources.contents(drawn)}
    facts: dict[str, Any] = {"data": sources.world(turns.setting), "episodes": len(drawn)}
    facts |= {name: value for name, value in known.items() if value}
    models = [one for one in turns.drivers if one.checkpoint is not None]
    if models:
        facts["weights"] = [weights_of(one.task, str(one.checkpoint)) for one in models]
        facts["device"] = device_name(models[0].device)
    return facts


def write_pool(
    out: Path,
    turns: Turns,
    facts: Mapping[str, Any],
    drawn: Sequence[Any],
    *,
    append: bool,
    jobs: int,
) -> None:
    """Let the policies play the episodes that the pool does not hold yet, and add these to it.

    Args:
        out: folder of the pool.
        turns: who plays.
        facts: what the pool remembers of the collection.
        drawn: its episodes.
        append: whether the pool may hold others.
        jobs: pieces of work that run at once.

    Raises:
        ValueError: if the pool cannot be added to.
        BlockingIOError: if somebody else is writing it.
    """
    from netllm_adapt import PoolWriter
    from netllm_adapt.files.locks import locked

    for note in sources.notes(turns.setting):
        _log.warning("%s", note)
    with locked(out):
        _check_replaceable(out, append=append)  # once more: another may have written it meanwhile
        size = registry.task(turns.task).shard
        wanted = {name: value for name, value in facts.items() if name != "device"}  # it may move
        held = held_of(out, wanted, drawn, size) if append else None
        if held == len(drawn):
            _log.warning("%s holds all %s episodes of this collection already.", out, f"{held:,}")
            return
        if append:
            warn_of_other_data(out, facts)
        pieces = [drawn[first : first + size] for first in range(0, len(drawn), size)]
        writer = PoolWriter(
            out,
            task=turns.task,
            setting=facts["setting"],
            provenance={name: value for name, value in facts.items() if name != "setting"},
            continues=held is not None,
            shard_episodes=size,
        )
        _write(writer, turns, pieces, (held or 0) // size, seed=facts["seed"], jobs=jobs)


def _write(
    writer: PoolWriter,
    turns: Turns,
    pieces: Sequence[Sequence[Any]],
    done: int,
    *,
    seed: int,
    jobs: int,
) -> None:
    """Let the policies play the pieces that are not done, and write their episodes in order."""
    from tqdm import tqdm

    calls = (partial(turns.run, pieces[i], derived_seed(seed, i)) for i in range(done, len(pieces)))
    held, total = sum(map(len, pieces[:done])), sum(map(len, pieces))
    with (
        tqdm(total=total, initial=held, desc="collect", unit="episode", disable=None) as bar,
        writer,
    ):
        for episodes in results(calls, jobs=jobs):
            for episode in episodes:
                writer.add(episode)
                bar.update()


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
