"""A pool as one file, or a data set of Minari, for other tools."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from netllm_adapt import Episode, Pool, Ragged


def export(pool: Pool, path: Path) -> Path:
    """Write a pool as one file of the kind that its suffix names.

    `.parquet` and `.jsonl` hold one row per episode, `.csv` one per decision with the fields spread
    over columns (`throughput_mbps.0`, …); `.minari` is a folder for `minari.MinariDataset(path)`.
    The file appears when it is complete, in place of one of that name.

    Raises:
        ValueError: for another suffix, or a file within the pool, which would become part of it.
        BlockingIOError: if somebody else is writing it.
        OSError: if it cannot be written.
    """
    from netllm_adapt.files.locks import locked
    from netllm_adapt.files.writing import new_file

    writers: dict[str, Callable[[Pool, Path], None]] = {
        ".parquet": _parquet,
        ".jsonl": _json_lines,
        ".csv": _csv,
    }
    if path.suffix not in {*writers, ".minari"}:
        raise ValueError(f"{path} must end with one of {', '.join(writers)}, .minari.")
    if pool.path.resolve() in path.resolve().parents:
        raise ValueError(f"{path} must lie outside the pool, or it would become part of it.")
    if path.suffix == ".minari":
        from netllm_adapt.pool.minari import to_minari

        return to_minari(pool, path)
    with locked(path, file=True), new_file(path) as work:
        writers[path.suffix](pool, work)
    return path


def _parquet(pool: Pool, path: Path) -> None:
    import pyarrow.dataset
    import pyarrow.parquet

    files = sorted(map(str, pool.path.glob("shard-*.parquet")))
    shards = pyarrow.dataset.dataset(files, format="parquet")
    with pyarrow.parquet.ParquetWriter(path, shards.schema, compression="zstd") as writer:
        for batch in shards.to_batches():
            writer.write_batch(batch)


def _json_lines(pool: Pool, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for episode in pool:
            row = {
                **_heading(episode),
                "meta": episode.meta,
                **{name: _lists(values) for name, values in _arrays(episode)},
            }
            file.write(json.dumps(row) + "\n")


def _csv(pool: Pool, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for episode in pool:
            columns = {
                name: column
                for key, values in _arrays(episode)
                for name, column in _spread(key, values)
            }
            if writer is None:
                names = [*_heading(episode), "step", *columns]
                writer = csv.DictWriter(file, names)
                writer.writeheader()
            for step in range(len(episode.actions)):
                row = {name: column[step] for name, column in columns.items()}
                writer.writerow({**_heading(episode), "step": step, **row})


def _heading(episode: Episode) -> dict[str, Any]:
    return {"id": episode.id, "policy": episode.policy, "seed": episode.seed}


def _lists(values: np.ndarray | Ragged) -> list[Any]:
    """Plain lists, one entry per step."""
    if isinstance(values, tuple):
        return [part.tolist() for part in np.split(values.values, values.ptr[1:-1])]
    listed: list[Any] = values.tolist()
    return listed


def _arrays(episode: Episode) -> Iterator[tuple[str, np.ndarray | Ragged]]:
    yield from episode.observations.items()
    yield "action", episode.actions
    # A field of the observation is called `reward` too: the last step's, known before the action.
    yield "earned", episode.rewards
    if episode.labels is not None:
        yield "label", episode.labels


def _spread(name: str, values: np.ndarray | Ragged) -> Iterator[tuple[str, np.ndarray]]:
    """One column per number of a step."""
    if isinstance(values, tuple):
        raise ValueError(
            f"A .csv must have as many columns at every step, but {name!r} holds any number of "
            "values. Export to .parquet or .jsonl."
        )
    for index in np.ndindex(values.shape[1:]):
        yield ".".join([name, *map(str, index)]), values[(slice(None), *index)]
