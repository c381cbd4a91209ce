"""The experience pool: episodes in Parquet files, one row each."""

from __future__ import annotations

import hashlib
import json
import operator
import platform
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from types import TracebackType
from typing import Any, Self, SupportsIndex

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from jaxtyping import Num, Shaped

from netllm_adapt.files import new_file, read_json
from netllm_adapt.ragged import Ragged
from netllm_adapt.shards import MISSING, VERSION, Field, Schema, decode, encode, open_shard, write

_PREFIX = "observation."
_SHARDS = "shard-*.parquet"
# Readers of Parquet folders (pandas, pyarrow) pass over names that begin with an underscore.
_PROVENANCE = "_provenance.json"


@dataclass(kw_only=True, eq=False)
class Episode:
    """One episode: what was seen, done and earned at each step."""

    id: str
    """Names the episode within its collection, the trace it ran on say."""
    policy: str
    """Who acted."""
    seed: int
    """Of the policy and the environment."""
    observations: Mapping[str, Shaped[np.ndarray, "step ..."] | Ragged]
    """Per field its value, or any number of values, at every step."""
    actions: Shaped[np.ndarray, "step ..."]
    rewards: Num[np.ndarray, "step"]
    labels: Shaped[np.ndarray, "step ..."] | None = None
    """What is to be learned at every step: a better policy's answers, or their probabilities
    `(step, answers)`; None to learn the actions."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Anything else that JSON can hold."""


class PoolWriter:
    """Adds episodes to a pool; a context manager.

    Shards appear whole or not at all, so a pool stays readable whatever stops its writer; when an
    exception ends the block, the episodes since the last shard are dropped. A pool that is there
    already is continued, by one writer at a time.

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
        ValueError: If the folder holds something else than a pool, a pool of another task or one
            whose provenance is damaged; if `setting` or `provenance` is not ready for JSON.
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
        self._collection = {"setting": setting, **provenance, **_environment()}
        _json("`setting` and `provenance`", self._collection)
        self._recorded = continues
        self._rows: list[dict[str, Any]] = []
        self.path.mkdir(parents=True, exist_ok=True)
        _check_folder(self.path)
        about = _provenance(self.path / _PROVENANCE)
        if continues and not about.get("collections"):
            raise ValueError(f"{self.path}: there must be a collection to continue, got none.")
        shards = _shards(self.path)
        self._schema = open_shard(shards[0]).schema if shards else None
        if self._schema is not None:
            self._schema.check(
                Schema(task, self._schema.fields), where="new episodes", pool=str(self.path)
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._rows:
            self._flush()

    def add(self, episode: Episode) -> None:
        """Add one episode; every `shard_episodes` of them are written.

        Raises:
            ValueError: If its arrays differ in length, or its fields from those of the pool.
            OSError: If a shard cannot be written; the complete ones stay.
        """
        row, fields = _row(episode)
        schema = Schema(self._task, fields)
        if self._schema is None:
            self._schema = schema
        self._schema.check(schema, where=f"episode {episode.id!r}", pool=str(self.path))
        self._rows.append(row)
        if len(self._rows) == self._shard_episodes:
            self._flush()

    def _flush(self) -> None:
        assert self._schema is not None  # set by the first `add`
        shards = _shards(self.path)
        number = int(shards[-1].stem.removeprefix("shard-")) + 1 if shards else 0
        path = self.path / f"shard-{number:05d}.parquet"
        rows, self._rows = self._rows, []
        write(encode(rows, self._schema), path)
        if not self._recorded:
            try:
                self._record(path.name)
            except BaseException:
                path.unlink()  # it would be nobody's, and be collected once more
                raise

    def _record(self, first_shard: str) -> None:
        path = self.path / _PROVENANCE
        about = _provenance(path) or {"task": self._task, "collections": []}
        about["collections"].append({"first_shard": first_shard, **self._collection})
        with new_file(path, then=MISSING) as work:
            work.write_text(json.dumps(about, indent=2), encoding="utf-8")
        self._recorded = True


class Pool(Sequence[Episode]):
    """The episodes of a pool, read from the disk one small group at a time.

    Args:
        path: Folder of the pool.

    Raises:
        FileNotFoundError: If there is no pool.
        ValueError: If a shard is cut off, has another schema or comes from a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        paths = _shards(self.path)
        if not paths:
            found = "an empty one or none of a pool's" if self.path.is_dir() else "no folder"
            raise FileNotFoundError(
                f"{self.path}: must be a folder with files {_SHARDS}, got {found}. "
                "Collect a pool with `netllm rl-collect`."
            )
        self._shards = [open_shard(path) for path in paths]
        self._schema = self._shards[0].schema
        for shard in self._shards[1:]:
            self._schema.check(shard.schema, where=f"{shard.path}:", pool=str(paths[0]))
        self._groups = [
            (shard, group) for shard in self._shards for group in range(shard.footer.num_row_groups)
        ]
        sizes = [shard.footer.row_group(group).num_rows for shard, group in self._groups]
        self._ends = np.cumsum(sizes)
        self._cached: tuple[int, pa.RecordBatch] | None = None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __iter__(self) -> Iterator[Episode]:
        for shard, group in self._groups:
            batch = shard.read(group)
            for row in range(batch.num_rows):
                yield self._episode(batch, row)

    def __getitem__(self, index: SupportsIndex) -> Episode:  # type: ignore[override]
        """One episode, counted over all shards; negative from the end."""
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.path} holds {len(self)} episodes, got index {number}.")
        number %= len(self)
        place = int(np.searchsorted(self._ends, number, side="right"))
        if self._cached is None or self._cached[0] != place:
            shard, group = self._groups[place]
            self._cached = place, shard.read(group)
        batch = self._cached[1]
        return self._episode(batch, number - int(self._ends[place]) + batch.num_rows)

    @property
    def fields(self) -> dict[str, Field]:
        """Type and shape of one step of every observed field."""
        return {
            name.removeprefix(_PREFIX): field
            for name, field in self._schema.fields.items()
            if name.startswith(_PREFIX)
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """Task and, per collection, setting, seed, command, package versions and time.

        Raises:
            ValueError: naming the file, if it holds something else.
        """
        return _provenance(self.path / _PROVENANCE)

    @property
    def collected(self) -> list[int]:
        """Episodes that are there of each collection of the provenance."""
        firsts = [one.get("first_shard", "") for one in self.provenance.get("collections", [])]
        held = [0] * len(firsts)
        for shard in self._shards:
            if number := bisect_right(firsts, shard.path.name):
                held[number - 1] += shard.footer.num_rows
        return held

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
            "version": VERSION,
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
        return Episode(
            id=values["id"],
            policy=values["policy"],
            seed=values["seed"],
            observations={name: values[_PREFIX + name] for name in self.fields},
            actions=values["actions"],
            rewards=values["rewards"],
            labels=values.get("labels"),
            meta=json.loads(values["meta"]),
        )


def digest(episodes: Iterable[Episode]) -> str:
    """SHA-256 of all that the episodes hold, in hexadecimal: the same wherever they are kept."""
    found = hashlib.sha256()
    for episode in episodes:
        arrays = _arrays(episode)
        found.update(repr((episode.id, episode.policy, episode.seed, sorted(arrays))).encode())
        for _, value in sorted(arrays.items()):
            for part in value if isinstance(value, Ragged) else [value]:
                found.update(f"{part.dtype} {part.shape}".encode())
                found.update(part.tobytes())
    return found.hexdigest()


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob(_SHARDS))


def _check_folder(folder: Path) -> None:
    for entry in folder.iterdir():
        if not (entry.match(_SHARDS) or entry.name == _PROVENANCE or entry.name[0] == "."):
            raise ValueError(
                f"{folder}: must be a pool, empty or new, got a folder that holds {entry.name!r}. "
                "Choose another folder."
            )


def _row(episode: Episode) -> tuple[dict[str, Any], dict[str, Field]]:
    """The episode as one row, and its fields."""
    where = f"episode {episode.id!r}"
    _check_names(episode, where)
    arrays = _arrays(episode)
    steps = check_steps(episode)
    fields = {}
    for name, array in arrays.items():
        try:
            fields[name] = Field.of(array)
        except ValueError as error:
            raise ValueError(f"{where}: {name!r} {error}") from error
    plain = {"id": episode.id, "policy": episode.policy, "seed": episode.seed, "steps": steps}
    return plain | {"meta": _json(f"{where}: `meta`", episode.meta)} | arrays, fields


def check_steps(episode: Episode) -> int:
    """How many steps an episode has.

    Raises:
        ValueError: If one of its fields has another number of them, or there is none.
    """
    arrays = _arrays(episode)
    steps: int = arrays["rewards"].size
    for name, array in arrays.items():
        if _steps(array) != steps or steps == 0:
            got = f"rows {array.ptr}" if isinstance(array, Ragged) else f"shape {array.shape}"
            raise ValueError(
                f"episode {episode.id!r}: {name!r} must have one entry per reward, {steps}, and at "
                f"least one, got {got}."
            )
    return steps


def _check_names(episode: Episode, where: str) -> None:
    """Refuse what a shard's columns cannot hold, before episodes wait beside it."""
    for name in ("id", "policy"):
        if not isinstance(value := getattr(episode, name), str):
            raise ValueError(f"{where}: `{name}` must be a string, got {value!r}.")
    seed = episode.seed
    if not (isinstance(seed, int | np.integer) and -(2**63) <= seed < 2**63):
        raise ValueError(f"{where}: `seed` must be a whole number of 64 bits, got {seed!r}.")


def _arrays(episode: Episode) -> dict[str, Any]:
    """The episode's arrays by the names of their columns."""
    arrays: dict[str, Any] = {
        _PREFIX + name: steps if isinstance(steps, Ragged) else np.asarray(steps)
        for name, steps in episode.observations.items()
    }
    arrays |= {"actions": np.asarray(episode.actions), "rewards": np.asarray(episode.rewards)}
    if episode.labels is not None:
        arrays["labels"] = np.asarray(episode.labels)
    return arrays


def _steps(array: np.ndarray | Ragged) -> int:
    if not isinstance(array, Ragged):
        return len(array) if array.ndim else 0
    whole = array.ptr[0] == 0 and array.ptr[-1] == len(array.values)
    return len(array.ptr) - 1 if whole and (np.diff(array.ptr) >= 0).all() else 0


def _json(what: str, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be ready for JSON, but {error}.") from error


def _provenance(path: Path) -> dict[str, Any]:
    """What a pool says of itself; nothing, if it says nothing.

    Raises:
        ValueError: naming the file, if it holds something else.
    """
    if not path.exists():
        return {}
    about = read_json(path)
    collections = about.get("collections")
    if not (
        isinstance(collections, list)
        and all(isinstance(one, dict) and "setting" in one for one in collections)
    ):
        raise ValueError(
            f"{path}: `collections` must be a list of objects with a `setting` each, got "
            f"{collections!r}. Restore the file, or move it away: the episodes stay usable."
        )
    return about


def _environment() -> dict[str, Any]:
    """When and with what a collection starts."""
    packages = {
        d.name: d.version
        for d in distributions()
        if d.name.startswith("netllm") or d.name in ("numpy", "pyarrow")
    }
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items())),
    }


def _per_policy(rows: list[tuple[str, int, float]]) -> dict[str, Any]:
    totals: dict[str, Any] = {}
    for policy, steps, reward in rows:
        old = totals.get(policy, (0, 0, 0.0))
        totals[policy] = (old[0] + 1, old[1] + steps, old[2] + reward)
    return {
        policy: {"episodes": episodes, "steps": steps, "reward_mean": reward / steps}
        for policy, (episodes, steps, reward) in totals.items()
    }
