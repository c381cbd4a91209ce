"""The Parquet files of a pool: what their columns hold, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from msgspec import Meta

from netllm_adapt.episodes import Ragged
from netllm_adapt.files.reading import check_regular, check_version, decode_json

VERSION = 3
"""Of the layout below (2: fields may be ragged; 3: final observation, and why an episode ended); a
reader refuses a newer one."""
ROWS_PER_GROUP = 16
"""Episodes that are decoded together: few, so that random access stays cheap."""
MISSING = "collect the missing episodes again"
"""What to do once there is room for a pool."""
SHARDS = "shard-*.parquet"
_AGAIN = "Delete it, the other shards stay usable, and collect its episodes again."
_KEY = b"netllm.pool"
_NUMBERS = r"bool|u?int(8|16|32|64)|float(16|32|64)"
_TEXT, _WHOLE = pa.string(), pa.int64()
_PLAIN = {"id": _TEXT, "policy": _TEXT, "seed": _WHOLE, "steps": _WHOLE, "meta": _TEXT}
_ENDING = {"ended": _TEXT, "reason": _TEXT}
"""What version 3 added."""


class Field(NamedTuple):
    """What one step of a field holds."""

    dtype: Annotated[str, Meta(pattern=f"^({_NUMBERS})$")]
    shape: tuple[Annotated[int, Meta(gt=0)], ...]
    """Of a step's value; of one of its values where steps hold any number of them."""
    ragged: bool = False

    @classmethod
    def of(cls, steps: np.ndarray | Ragged) -> Field:
        """The field whose steps, or values of steps, lie along the first axis of an array.

        Raises:
            ValueError: If Parquet cannot keep such an array.
        """
        values = steps.values if isinstance(steps, Ragged) else steps
        name, shape = values.dtype.newbyteorder("=").name, values.shape[1:]
        try:
            return msgspec.convert((name, shape, isinstance(steps, Ragged)), cls)
        except msgspec.ValidationError as error:
            raise ValueError(
                "must hold booleans, integers or floats of at most 64 bits and have no empty axis, "
                f"got {name} {shape}."
            ) from error

    def arrow(self) -> pa.DataType:
        """The Arrow type of all steps of one episode."""
        nested = pa.from_numpy_dtype(np.dtype(self.dtype))
        for length in reversed(self.shape):
            nested = pa.list_(nested, length)
        return pa.list_(pa.list_(nested)) if self.ragged else pa.list_(nested)

    def __str__(self) -> str:
        axes = ("step", *(["any"] if self.ragged else []), *self.shape)
        return f"{self.dtype}[{', '.join(map(str, axes))}]"


class Schema(msgspec.Struct, frozen=True):
    """The version, task and fields of a pool."""

    task: str
    fields: dict[str, Field]
    version: Annotated[int, Meta(ge=1)] = VERSION

    @property
    def plain(self) -> dict[str, pa.DataType]:
        """Columns that hold one plain value per episode."""
        return _PLAIN | _ENDING if self.version >= 3 else _PLAIN

    def arrow(self) -> pa.Schema:
        """The Arrow schema of a shard, with version, task, types and shapes in its metadata."""
        columns = self.plain | {name: field.arrow() for name, field in self.fields.items()}
        return pa.schema(list(columns.items()), metadata={_KEY: msgspec.json.encode(self)})

    def check(self, got: Schema, *, where: str, pool: str) -> None:
        """Raise unless `got`, the schema of what `where` names, is this one of `pool`.

        Raises:
            ValueError: If the task or a field differs.
        """
        if got.task != self.task:
            raise ValueError(
                f"{where} must hold the task {self.task!r} as {pool} does, got {got.task!r}. "
                "Keep one pool per task."
            )
        if differ := difference(got.fields, self.fields):
            raise ValueError(
                f"{where} must have the fields of {pool}, but {differ}. Keep one pool per set of "
                "fields."
            )


class Shard(NamedTuple):
    """A complete file of a pool, its footer read and checked.

    A footer takes half a megabyte, those of a large pool more than all else that is kept of it.
    """

    path: Path
    schema: Schema
    rows: tuple[int, ...]
    """Of each group."""
    group_bytes: tuple[int, ...]
    """About how many bytes the values of each group take in memory."""

    def read(self, group: int, columns: list[str] | None = None) -> pa.RecordBatch:
        """The rows of one group.

        Raises:
            ValueError: If the file was damaged.
        """
        with _damage_named(self.path):
            footer = _footer(self.path, self.path.stat().st_mtime_ns)
            checks = {"metadata": footer, "page_checksum_verification": True}
            with pq.ParquetFile(self.path, **checks) as file:
                table = file.read_row_group(group, columns=columns)
            batch = table.combine_chunks().to_batches()[0]
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if _has_nulls(column):
                raise ValueError(
                    f"{self.path}: every value must be there, but some of {name!r} are null. "
                    f"{_AGAIN}"
                )
        return batch


def shards_of(folder: Path) -> list[Path]:
    """The shards in a pool's folder, in the order of their episodes."""
    return sorted(folder.glob(SHARDS))


def open_shard(path: Path) -> Shard:
    """A shard that is complete by its footer, ours, and of a version known here.

    Raises:
        ValueError: If it is none of that; the message says which and what to do.
    """
    check_regular(path)
    with _damage_named(path):
        footer = pq.read_metadata(path)
    arrow = footer.schema.to_arrow_schema()
    declared = (arrow.metadata or {}).get(_KEY)
    if declared is None:
        raise ValueError(
            f"{path}: must be a shard of a pool, got a Parquet file with the columns "
            f"{', '.join(arrow.names)}. Move it out of the pool's folder."
        )
    check_version(declared, VERSION, name=f"{path}: metadata")
    schema: Schema = decode_json(declared, Schema, name=f"{path}: metadata")
    got, expected = (dict(zip(s.names, s.types, strict=True)) for s in (arrow, schema.arrow()))
    if differ := difference(got, expected):
        raise ValueError(
            f"{path}: must have the columns that its metadata declares, but {differ}. Was it "
            f"rewritten by another tool? {_AGAIN}"
        )
    groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
    rows = tuple(group.num_rows for group in groups)
    if not rows or min(rows) < 1:
        raise ValueError(f"{path}: must hold episodes in every group, got {rows} rows. {_AGAIN}")
    names = schema.arrow().names
    widths = {names.index(n): np.dtype(field.dtype).itemsize for n, field in schema.fields.items()}
    group_bytes = (
        sum(group.column(at).num_values * width for at, width in widths.items()) for group in groups
    )
    return Shard(path, schema, rows, tuple(group_bytes))


@lru_cache(maxsize=4)
def _footer(path: Path, stamp: int) -> pq.FileMetaData:
    """Read once for groups that are read one after the other; `stamp` tells a file from others."""
    return pq.read_metadata(path)


def _has_nulls(array: pa.Array) -> bool:
    """Whether a value, or a part of one, is null."""
    if array.null_count:
        return True
    nested = pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type)
    return nested and _has_nulls(array.flatten())


def write(rows: Sequence[Mapping[str, Any]], schema: Schema, path: Path) -> None:
    """Write rows of plain values and arrays as a shard."""
    arrow = schema.arrow()
    columns = [
        _encode_arrays([row[name] for row in rows], schema.fields[name])
        if name in schema.fields
        else pa.array([row[name] for row in rows], schema.plain[name])
        for name in arrow.names
    ]
    table = pa.Table.from_arrays(columns, schema=arrow)
    pq.write_table(
        table, path, row_group_size=ROWS_PER_GROUP, compression="zstd", write_page_checksum=True
    )


def decode(batch: pa.RecordBatch, row: int, schema: Schema) -> dict[str, Any]:
    """One row's plain values and arrays, as they were written; the arrays are the caller's own."""
    values = {name: batch.column(name)[row].as_py() for name in schema.plain}
    for name, field in schema.fields.items():
        steps = batch.column(name)[row].values
        if field.ragged:
            ptr = np.array(steps.offsets.to_numpy(), dtype=np.int64)
            values[name] = Ragged(_decode_array(steps.flatten(), field), ptr - ptr[0])
        else:
            values[name] = _decode_array(steps, field)
    return values


def _decode_array(steps: pa.Array, field: Field) -> np.ndarray:
    for _ in field.shape:
        steps = steps.flatten()
    flat = steps.to_numpy(zero_copy_only=False)
    return np.array(flat.reshape(-1, *field.shape), dtype=field.dtype)


def _encode_arrays(arrays: Sequence[np.ndarray | Ragged], field: Field) -> pa.Array:
    flat = [array.values if isinstance(array, Ragged) else array for array in arrays]
    values = pa.array(np.concatenate(flat).astype(field.dtype, copy=False).ravel())
    for length in reversed(field.shape):
        values = pa.FixedSizeListArray.from_arrays(values, length)
    if field.ragged:
        counts = [np.diff(array.ptr) for array in arrays if isinstance(array, Ragged)]
        return _lists([len(count) for count in counts], _lists(np.concatenate(counts), values))
    return _lists([len(array) for array in flat], values)


def _lists(lengths: Sequence[int] | np.ndarray, values: pa.Array) -> pa.Array:
    offsets = np.cumsum([0, *lengths])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ValueError(
            f"a shard must hold fewer than 2^31 values per field, got {offsets[-1]}. "
            "Lower `shard_episodes`."
        )
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def difference(got: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Names whose values differ, in words; empty if none does."""
    return "; ".join(
        f"{name!r} is {got.get(name, 'missing')} instead of {expected.get(name, 'absent')}"
        for name in sorted(got.keys() | expected.keys())
        if got.get(name) != expected.get(name)
    )


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's, a missing permission say; not about the content
        raise ValueError(
            f"{path}: must be a complete Parquet file, but is cut off or damaged ({error}). "
            f"{_AGAIN}"
        ) from error
