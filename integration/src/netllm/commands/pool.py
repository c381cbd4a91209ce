"""`netllm pool info` and `netllm pool export`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.commands.options import Output
from netllm.commands.printed_answer import Answer

if TYPE_CHECKING:
    from netllm_adapt import Pool

_APART = ("packages", "episodes", "sources", "contents")
"""Facts of a collection that are told in another way, or are for programs."""


def info(path: Path, /, *, output: Output = Output()) -> Answer:
    """What is in a pool: episodes, policies, returns, fields, provenance.

    Args:
        path: Folder of the pool.
    """
    from netllm_adapt import Pool

    return described(Pool(path))


def export(path: Path, out: Path, /, *, output: Output = Output()) -> Answer:
    """Write a pool as one file: .parquet and .jsonl by episode, .csv by decision; .minari a folder.

    Args:
        path: Folder of the pool.
        out: The file to write.
    """
    from netllm_adapt import Pool

    from netllm.data.export_pool import export as write

    written = write(Pool(path), out)
    return Answer({"pool": path, "file": written}, str(written))


def described(pool: Pool) -> Answer:
    """What a pool says of itself."""
    return Answer({**pool.info(), "provenance": pool.provenance}, partial(_show, pool))


def _show(pool: Pool) -> None:
    from netllm.data import sources

    about = pool.info()
    returns = about["return_percentiles"]
    collections = pool.provenance.get("collections", [])
    missing = [
        _missing(one, held) for one, held in zip(collections, about["collected"], strict=True)
    ]
    print(
        f"{pool.path}: {_count(about['episodes'], sum(missing))}, {about['steps']:,} decisions of "
        f"{about['task']} in {', '.join(map(str, about['settings']))}, "
        f"{about['bytes'] / 1e6:.1f} MB in {about['shards']} shards"
    )
    for name, some in about["policies"].items():
        print(f"  {name}: {some['episodes']:,} episodes, {some['reward_mean']:.3f} per decision")
    print(f"  return: {', '.join(f'{value:.1f} at {level} %' for level, value in returns.items())}")
    print(f"  labels: {'a second policy' if about['labels'] else 'the actions themselves'}")
    for one, held, lacks in zip(collections, about["collected"], missing, strict=True):
        facts = [f"{name}={one[name]}" for name in one if name not in _APART]
        print(f"  collected: {', '.join([_count(held, lacks), *facts])}")
        for source in sources.read(one.get("sources")):
            print(f"    {source.kind}: {source}")


def _missing(collection: Mapping[str, Any], held: int) -> int:
    """How many episodes a collection lacks; of an earlier version's nothing is known."""
    planned = collection.get("episodes")
    return max(planned - held, 0) if isinstance(planned, int) else 0


def _count(held: int, missing: int) -> str:
    return f"{held:,} of {held + missing:,} episodes" if missing else f"{held:,} episodes"
