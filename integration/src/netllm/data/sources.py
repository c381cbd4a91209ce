"""Which data pools, checkpoints and results are made of, and whether it is the same data.

A setting may tell its `sources` (`netllm_sims.data_sources.Source`), and how its own data were
`divided` into parts; its episodes may tell their `contents`. Of one that does not, nothing is
claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netllm_sims.data_sources import Source

_DIGITS = 16
"""Digits that are kept of the digest of an episode's content: 64 bits."""


def sources(setting: Any) -> list[Source]:
    """What a setting is made of, as far as it tells."""
    return [*getattr(setting, "sources", ())]


def kept(some: Iterable[Source]) -> list[dict[str, Any]]:
    """Sources as JSON can hold them."""
    return [one.document() for one in some]


def read(documents: Any) -> list[Source]:
    """The sources that a pool or a checkpoint tells of; none of what an earlier version wrote.

    Raises:
        ValueError: if they are no sources.
    """
    import msgspec
    from netllm_sims.data_sources import Source

    try:
        return msgspec.convert(documents or [], list[Source])
    except msgspec.ValidationError as error:
        raise ValueError(f"`sources` must be a list of sources of data: {error}.") from error


def contents(episodes: Iterable[Any]) -> list[str]:
    """Digests of what some episodes show, sorted, as pools and checkpoints keep them."""
    from netllm_sims.data_sources import contents

    return sorted({digest[:_DIGITS] for digest in contents(episodes)})


def world(setting: Any) -> str:
    """The kind of data: `real`, `synthetic`, or what of it is a person's own and what generated."""
    some = sources(setting)
    if not any(one.origin == "own" for one in some):
        return "synthetic" if setting.synthetic else "real"
    return ", ".join(f"{one.origin} {one.kind}" for one in some)


def own(setting: Any) -> str:
    """A person's own data by their names, with files and digests; empty if there are none."""
    return ", ".join(str(one) for one in sources(setting) if one.origin == "own")


def described(setting: Any) -> str:
    """The data for people: `real`, `synthetic`, or every source by its name."""
    return ", ".join(map(str, sources(setting))) if own(setting) else world(setting)


def notes(setting: Any) -> Iterator[str]:
    """What a reader must know of a setting's data: what is generated, and who tests on what."""
    if setting.synthetic:
        kinds = [one.kind for one in sources(setting) if one.origin == "generated"]
        of = f" of {' and '.join(kinds)}" if kinds else ""
        yield (
            f"{setting.name} has seeded generators{of} in place of real data. "
            "Where there is some, give it with --data DIR or NETLLM_DATA, your own with --set."
        )
    if divided := getattr(setting, "divided", None):
        yield divided


def backbone(name: str) -> Source | None:
    """The weights of a backbone that was pulled, or lies in a folder; None if there are none here.

    Those of random networks are made, and those of a hub's models kept, by others.
    """
    from netllm_adapt.backbone import backbone_folder
    from netllm_sims.data_sources import of_files

    for folder in (backbone_folder(name), Path(name)):
        files = sorted(file.name for file in folder.glob("*.safetensors"))
        if files:
            return of_files("backbone", folder, origin="published", only=files)
    return None


def differences(before: Sequence[Source], now: Sequence[Source]) -> list[tuple[Source, Source]]:
    """Sources of one kind that are not the same data, as pairs of then and now."""
    known = {one.kind: one for one in before}
    return [
        (known[one.kind], one)
        for one in now
        if one.kind in known
        and (known[one.kind].sha256, known[one.kind].origin == "generated")
        != (one.sha256, one.origin == "generated")
    ]


def told(pairs: Iterable[tuple[Source, Source]]) -> str:
    """Differences in words, each with both digests."""
    return "; ".join(f"{then.kind} {then} there, {now} here" for then, now in pairs)


def joined(collections: Iterable[Mapping[str, Any]]) -> tuple[list[Source], list[str]]:
    """Sources of all collections of a pool, each once, and the contents of their episodes."""
    some = [one for collection in collections for one in read(collection.get("sources"))]
    shown = {digest for collection in collections for digest in collection.get("contents", ())}
    return list(dict.fromkeys(some)), sorted(shown)
