"""Adds episodes to a pool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from netllm_adapt.episodes import ENDS, FINAL, OBSERVED, Episode, arrays_of, check_steps, final_of
from netllm_adapt.files.locks import locked
from netllm_adapt.files.writing import check_replaceable, new_file
from netllm_adapt.pool.parquet_format import (
    MISSING,
    SHARDS,
    VERSION,
    Field,
    Schema,
    difference,
    open_shard,
    shards_of,
    write,
)
from netllm_adapt.pool.provenance import (
    PROVENANCE,
    as_json,
    check_collection,
    environment,
    read_provenance,
)

RECIPES = "recipe*.toml"
"""What a pool was collected with, where a program keeps that beside it."""


class PoolWriter:
    """Adds episodes to a pool; a context manager.

    Shards appear whole or not at all, so a pool stays readable whatever stops its writer; when an
    exception ends the block, the episodes since the last shard are dropped. A pool that is there
    already is continued. Until the block ends nobody else writes it (`locks.locked`).

    A collection's provenance is there before its first shard, so that every episode belongs to
    one, and how many are missing is known.

    Args:
        path: Folder of the pool; made if it is missing.
        task: Name of the task.
        setting: The environment's setting: its name or anything else that JSON can hold.
        provenance: Where the episodes come from (policies, seed, command, …), as JSON can hold it,
            and how many are planned, `episodes`. The installed netllm packages' versions and the
            time are added.
        continues: The episodes are the next ones of the pool's last collection, which was cut off.
        shard_episodes: Episodes per file.

    Raises:
        FileExistsError: If the folder holds something else than a pool.
        ValueError: If it holds a pool of another task or an earlier version, or one whose
            provenance is damaged; if `setting` or `provenance` is not ready for JSON.
        BlockingIOError: If somebody else is writing it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        task: str,
        setting: Any,
        provenance: Mapping[str, Any],
        continues: bool = False,
        shard_episodes: int = 256,
    ) -> None:
        if shard_episodes < 1:
            raise ValueError(f"`shard_episodes` must be at least 1, got {shard_episodes}.")
        self.path = Path(path)
        self._task = task
        self._shard_episodes = shard_episodes
        self._collection = {"setting": setting, **provenance, **environment()}
        check_collection(self._collection)
        self._recorded = continues
        self._rows: list[dict[str, Any]] = []
        with ExitStack() as lock:
            lock.enter_context(locked(self.path))
            self._schema = self._open(continues)
            self._lock = lock.pop_all()

    def _open(self, continues: bool) -> Schema | None:
        """The schema of the pool that is there, made ready to be continued."""
        check_replaceable(self.path, "a pool", allowed=(SHARDS, RECIPES, PROVENANCE, ".*"))
        about = read_provenance(self.path / PROVENANCE)
        if continues and not about.get("collections"):
            raise ValueError(f"{self.path}: there must be a collection to continue, got none.")
        for half in self.path.glob(f".{SHARDS}.partial"):
            half.unlink()  # a killed writer's
        shards = shards_of(self.path)
        if not shards:
            return None
        schema = open_shard(shards[0]).schema
        schema.check(Schema(self._task, schema.fields), where="new episodes", pool=str(self.path))
        if schema.version < VERSION:
            raise ValueError(
                f"{self.path}: must have version {VERSION} to be continued, got version "
                f"{schema.version}, whose episodes do not tell how they ended. It stays readable: "
                "collect into another folder."
            )
        return schema

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            if kind is None and self._rows:
                self._flush()

    def add(self, episode: Episode) -> None:
        """Add one episode; every `shard_episodes` of them are written.

        Raises:
            ValueError: If its arrays differ in length, or its fields from those of the pool.
            OSError: If a shard cannot be written; the complete ones stay.
        """
        where = f"episode {episode.id!r}"
        row, fields = _row(episode, where)
        schema = Schema(self._task, fields)
        self._schema = self._schema or schema
        self._schema.check(schema, where=where, pool=str(self.path))
        self._rows.append(row)
        if len(self._rows) == self._shard_episodes:
            self._flush()

    def _flush(self) -> None:
        assert self._schema is not None  # set by the first `add`
        shards = shards_of(self.path)
        number = int(shards[-1].stem.removeprefix("shard-")) + 1 if shards else 0
        path = self.path / f"shard-{number:05d}.parquet"
        rows, self._rows = self._rows, []
        with new_file(path, then=MISSING) as work:
            write(rows, self._schema, work)
            if not self._recorded:
                # Before the shard is there: without it, it would be nobody's and collected twice.
                self._record(path.name)

    def _record(self, first_shard: str) -> None:
        path = self.path / PROVENANCE
        about = read_provenance(path) or {"task": self._task, "collections": []}
        about["collections"].append({"first_shard": first_shard, **self._collection})
        with new_file(path, then=MISSING) as work:
            work.write_text(json.dumps(about, indent=2), encoding="utf-8")
        self._recorded = True


def _row(episode: Episode, where: str) -> tuple[dict[str, Any], dict[str, Field]]:
    """The episode as one row, and its fields."""
    plain = {name: getattr(episode, name) for name in ("id", "policy", "seed", "ended", "reason")}
    for name, value in plain.items():
        if name != "seed" and not isinstance(value, str):
            raise ValueError(f"{where}: `{name}` must be a string, got {value!r}.")
    seed = episode.seed
    if not (isinstance(seed, int | np.integer) and -(2**63) <= seed < 2**63):
        raise ValueError(f"{where}: `seed` must be a whole number of 64 bits, got {seed!r}.")
    if episode.ended not in ENDS:
        raise ValueError(f"{where}: `ended` must be one of {ENDS}, got {episode.ended!r}.")
    plain["meta"] = as_json(f"{where}: `meta`", episode.meta)
    plain["steps"] = check_steps(episode)
    arrays, fields = arrays_of(episode) | final_of(episode), {}
    for name, array in arrays.items():
        try:
            fields[name] = Field.of(array)
        except ValueError as error:
            raise ValueError(f"{where}: {name!r} {error}") from error
    seen = {FINAL + name: fields[OBSERVED + name] for name in episode.observations}
    final = {name: field for name, field in fields.items() if name.startswith(FINAL)}
    if episode.final is not None and (differ := difference(final, seen)):
        raise ValueError(
            f"{where}: `final` must have the fields of one step of `observations`, but {differ}."
        )
    return plain | arrays, fields
