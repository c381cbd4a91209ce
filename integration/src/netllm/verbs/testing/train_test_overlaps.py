"""Whether a test shows what a checkpoint knows already, and on which data it was made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from netllm.data import sources

if TYPE_CHECKING:
    from netllm.verbs.pieces import Line


def shown(digests: Iterable[str], episodes: Iterable[Any]) -> int:
    """How many of the episodes show what has one of these digests."""
    digests = frozenset(digests)
    if not digests:
        return 0
    each = {episode.id: episode for episode in episodes}.values()
    return sum(not digests.isdisjoint(sources.contents([episode])) for episode in each)


def overlaps(lines: Iterable[Line]) -> Iterator[str]:
    """Notes on checkpoints that know what they are tested on, or whose data have changed since."""
    for line in lines:
        identity = line.spec.facts.identity
        if identity is None:
            continue
        count = len({episode.id for episode in line.episodes})
        where = f"{line.spec.checkpoint} in {line.setting.name}"
        for verb, digests in (("trained", identity.learned), ("chosen", identity.validated)):
            if some := shown(digests, line.episodes):
                yield (
                    f"{where}: it was {verb} on the content of {some} of the {count} episodes, so "
                    "its figures are not those of unseen data."
                )
        yield from _changed(where, identity.sources, line.setting)


def _changed(where: str, before: Sequence[Any], setting: Any) -> Iterator[str]:
    """That sources of the same name have other content."""
    kept = sources.read(before)
    frozen = [sources.backbone(one.name) for one in kept if one.kind == "backbone"]
    now = [*sources.sources(setting), *(one for one in frozen if one)]
    names: Collection[str] = {one.name for one in now}
    same = [one for one in kept if one.name in names]
    pairs = [pair for pair in sources.differences(same, now) if pair[0].name == pair[1].name]
    if pairs:
        yield f"{where}: it was adapted on other data by the same name: {sources.told(pairs)}."
