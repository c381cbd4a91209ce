"""Reads the episodes of a pool."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from jaxtyping import Float, Int

from netllm_adapt.episodes import FINAL, OBSERVED, Episode, Ragged
from netllm_adapt.files.reading import decode_json
from netllm_adapt.pool.parquet_format import (
    SHARDS,
    Field,
    Shard,
    decode,
    open_shard,
    shards_of,
)
from netllm_adapt.pool.provenance import PROVENANCE, read_provenance

KEPT = 48 << 20
"""Bytes of groups that a pool keeps in memory, those that were used last."""


class Pool(Sequence[Episode]):
    """The episodes of a pool, read from the disk one small group at a time.

    Whatever its size, it takes `KEPT` bytes of memory, or a single group if that is larger.

    Args:
        path: Folder of the pool.

    Raises:
        FileNotFoundError: If there is no pool.
        ValueError: If a shard is cut off, has another schema or comes from a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        paths = shards_of(self.path)
        if not paths:
            got = "an empty one or none of a pool's" if self.path.is_dir() else "no folder"
            raise FileNotFoundError(
                f"{self.path}: must be a folder with files {SHARDS}, got {got}. "
                "Collect a pool with `netllm rl-collect`."
            )
        self._shards = [open_shard(path) for path in paths]
        self._schema = self._shards[0].schema
        for shard in self._shards[1:]:
            self._schema.check(shard.schema, where=f"{shard.path}:", pool=str(paths[0]))
        self._groups = [
            (shard, group) for shard in self._shards for group in range(len(shard.rows))
        ]
        sizes = [rows for shard in self._shards for rows in shard.rows]
        self._ends = np.cumsum(sizes)
        self._kept: OrderedDict[int, pa.RecordBatch] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __iter__(self) -> Iterator[Episode]:
        for shard, group in self._groups:
            batch = shard.read(group)
            yield from (self._episode(batch, row) for row in range(batch.num_rows))

    def __getitem__(self, index: SupportsIndex) -> Episode:  # type: ignore[override]
        """One episode, counted over all shards; negative from the end."""
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.path} holds {len(self)} episodes, got index {number}.")
        number %= len(self)
        at = int(np.searchsorted(self._ends, number, side="right"))
        batch = self._group(at)
        return self._episode(batch, number - int(self._ends[at]) + batch.num_rows)

    def _group(self, number: int) -> pa.RecordBatch:
        batch = self._kept.pop(number, None)
        if batch is None:
            shard, group = self._groups[number]
            while self._kept and self.group_bytes[[*self._kept, number]].sum() > KEPT:
                self._kept.popitem(last=False)
            batch = shard.read(group)
        self._kept[number] = batch
        return batch

    @cached_property
    def group_bytes(self) -> Int[np.ndarray, "group"]:
        """About how many bytes each group takes in memory."""
        return np.array([size for shard in self._shards for size in shard.group_bytes])

    def shuffled(self, draw: np.random.Generator) -> list[Int[np.ndarray, "episode"]]:
        """The numbers of all episodes, in parts of which the pool keeps one in memory.

        Each part is of groups that are drawn at random. Whoever takes part after part reads every
        group from the disk once.
        """
        numbers = np.split(np.arange(len(self)), self._ends[:-1])
        whole = int(self.group_bytes.sum())
        if whole <= KEPT:
            return [np.concatenate(numbers)]
        order = draw.permutation(len(numbers))
        part = self.group_bytes[order].cumsum() * -(-whole // KEPT) // (whole + 1)
        return [
            np.concatenate([numbers[group] for group in order[part == one]])
            for one in np.unique(part)
        ]

    @property
    def task(self) -> str:
        """The task that its episodes are of."""
        return self._schema.task

    @property
    def returns(self) -> Float[np.ndarray, "episode"]:
        """The sum of every episode's rewards, in the reward's unit."""
        columns = (shard.read(group, ["rewards"]).column(0) for shard, group in self._groups)
        steps = (row.values.to_numpy(zero_copy_only=False) for column in columns for row in column)
        return np.array([rewards.sum() for rewards in steps])

    @property
    def fields(self) -> dict[str, Field]:
        """Type and shape of one step of every observed field."""
        return {
            name.removeprefix(OBSERVED): field
            for name, field in self._schema.fields.items()
            if name.startswith(OBSERVED)
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """Task and, per collection, setting, seed, command, package versions and time.

        Raises:
            ValueError: naming the file, if it holds something else.
        """
        return read_provenance(self.path / PROVENANCE)

    @property
    def collected(self) -> list[int]:
        """Episodes that are there of each collection of the provenance."""
        return _held(self.provenance, self._shards)

    @property
    def longest(self) -> int:
        """Steps of its longest episode."""
        return max(
            row["steps"]
            for shard, group in self._groups
            for row in shard.read(group, ["steps"]).to_pylist()
        )

    def info(self) -> dict[str, Any]:
        """What the pool holds, ready for JSON; rewards and returns in the reward's unit."""
        columns = ["policy", "steps", "rewards"]
        rows = [
            (row["policy"], row["steps"], float(np.sum(row["rewards"], dtype=np.float64)))
            for shard, group in self._groups
            for row in shard.read(group, columns).to_pylist()
        ]
        levels = (0, 5, 25, 50, 75, 95, 100)
        quantiles = np.percentile([reward for _, _, reward in rows], levels)
        return {
            "path": str(self.path),
            "version": self._schema.version,
            "task": self._schema.task,
            "settings": [c["setting"] for c in self.provenance.get("collections", [])],
            "episodes": len(self),
            "collected": self.collected,
            "steps": sum(steps for _, steps, _ in rows),
            "policies": _per_policy(rows),
            "return_percentiles": dict(zip(map(str, levels), quantiles.tolist(), strict=True)),
            "fields": {name: str(field) for name, field in self._schema.fields.items()},
            "labels": "labels" in self._schema.fields,
            "shards": len(self._shards),
            "bytes": sum(shard.path.stat().st_size for shard in self._shards),
        }

    def _episode(self, batch: pa.RecordBatch, row: int) -> Episode:
        values = decode(batch, row, self._schema)
        names = ("id", "policy", "seed", "actions", "rewards", "labels", "ended", "reason")
        final = {name: values[FINAL + name] for name in self.fields if FINAL + name in values}
        only = {n: v.values if isinstance(v, Ragged) else v[0] for n, v in final.items()}
        return Episode(
            observations={name: values[OBSERVED + name] for name in self.fields},
            meta=decode_json(values["meta"], dict[str, Any], name=f"{self.path}: `meta`"),
            final=only if len(only) == len(self.fields) else None,
            **{name: values[name] for name in names if name in values},
        )


def collections_of(folder: Path) -> list[tuple[dict[str, Any], int]]:
    """What is said of each collection in a pool's folder, and how many of its episodes are there.

    Also where none is: a collection is told of before its first shard is written.

    Raises:
        ValueError: naming the file, if one is damaged, or if the episodes of a shard belong to no
            collection.
    """
    about = read_provenance(folder / PROVENANCE)
    shards = [open_shard(path) for path in shards_of(folder)]
    held = _held(about, shards)
    lost = sum(sum(shard.rows) for shard in shards) - sum(held)
    if lost:
        raise ValueError(
            f"{folder}: every episode must belong to a collection of {PROVENANCE}, but {lost:,} "
            f"from {shards[0].path.name} on do not: that file was moved away, or an earlier "
            f"version was killed between the two. Choose another folder; or delete the shards "
            "that it does not name, and collect their episodes again."
        )
    return list(zip(about.get("collections", []), held, strict=True))


def _held(about: Mapping[str, Any], shards: Sequence[Shard]) -> list[int]:
    firsts = [one.get("first_shard", "") for one in about.get("collections", [])]
    held = [0] * len(firsts)
    for shard in shards:
        if number := bisect_right(firsts, shard.path.name):
            held[number - 1] += sum(shard.rows)
    return held


def _per_policy(rows: list[tuple[str, int, float]]) -> dict[str, Any]:
    totals: dict[str, Any] = {}
    for policy, steps, reward in rows:
        old = totals.get(policy, (0, 0, 0.0))
        totals[policy] = (old[0] + 1, old[1] + steps, old[2] + reward)
    return {
        policy: {"episodes": episodes, "steps": steps, "reward_mean": reward / steps}
        for policy, (episodes, steps, reward) in totals.items()
    }
