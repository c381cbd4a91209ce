"""Seeded mutations of a file's content, also of what containers hold within.

A kind names what a file is, from the outside to the inside: `json`, `gzip:json`, `zip:text`.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from mutating.plain import OF_BYTES, OF_TEXT, Mutator, other_json


def mutated(content: bytes, kind: str, rng: random.Random) -> tuple[str, bytes]:
    """What was done, and the content after it."""
    outer, _, inner = kind.partition(":")
    if outer in _WITHIN and (rng.random() < 0.7):
        return _WITHIN[outer](content, inner, rng)
    choices = {**OF_BYTES, **_OF_KIND.get(outer, {})}
    name = rng.choice([*_OFTEN.get(outer, []), *choices])
    return name, choices[name](content, rng)


def _in_gzip(content: bytes, inner: str, rng: random.Random) -> tuple[str, bytes]:
    what, within = mutated(gzip.decompress(content), inner, rng)
    return f"in gzip: {what}", gzip.compress(within, 1, mtime=0)


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 1)
    return buffer.getvalue()


def _in_zip(content: bytes, inner: str, rng: random.Random) -> tuple[str, bytes]:
    members = _members(content)
    name = rng.choice([*members])
    if rng.random() < 0.15:
        return _other_members(members, name, rng)
    what, members[name] = mutated(members[name], inner, rng)
    return f"in the zip: {what}", _archive([*members.items()])


def _other_members(members: dict[str, bytes], name: str, rng: random.Random) -> tuple[str, bytes]:
    what = rng.choice(("removed", "renamed", "outside", "absolute", "added", "huge"))
    content = members.pop(name)
    if what == "huge":
        members[name] = content + bytes(1 << 27)
    elif what != "removed":
        names = {"renamed": f"{name}x", "outside": f"../{name}", "absolute": f"/{name}"}
        members[names.get(what, name)] = content
    if what == "added":
        members[f"more/{name}"] = content
    return f"a member {what}", _archive([*members.items()])


def other_array(content: bytes, rng: random.Random) -> bytes:
    """A `.npy` file whose array has another value, type or shape."""
    import numpy as np

    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError):
        return content[: len(content) // 2]
    array = _other_values(array, rng)
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _other_values(array: Any, rng: random.Random) -> Any:
    import numpy as np

    if array.dtype.kind == "U" and rng.random() < 0.8:  # metadata as JSON
        return np.array(other_json(str(array).encode(), rng).decode("utf-8", "replace"))
    what = rng.choice(("value", "type", "flat", "turned", "none", "axis", "shorter"))
    if what == "value" and array.dtype.kind == "f" and array.size:
        array = array.copy()
        with np.errstate(over="ignore"):
            wrong = rng.choice((np.nan, np.inf, -np.inf, 1e38, -1e38))
            array.flat[rng.randrange(array.size)] = array.dtype.type(wrong)
        return array
    if what == "type":
        numbers = () if array.dtype.kind == "U" else ("S4", "c16", "?", "i8", "f2", "f8")
        return array.astype(rng.choice(("U8", "O", *numbers)))
    changes = {"flat": array.ravel(), "turned": array.T, "none": array.ravel()[:0]}
    return changes.get(what, array[None] if what == "axis" or not array.ndim else array[:-1])


def _in_safetensors(content: bytes, inner: str, rng: random.Random) -> tuple[str, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    if rng.random() < 0.5:
        header = other_json(content[8 : 8 + length], rng)
        return "another header", struct.pack("<Q", len(header)) + header + content[8 + length :]
    from safetensors.numpy import load, save

    arrays = load(content)
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__")
    name = rng.choice([*arrays])
    array = arrays.pop(name)
    if (what := rng.choice(("values", "values", "removed", "renamed"))) == "values":
        other = _other_values(array, rng)
        array = other if other.dtype.kind in "fib" and other.dtype.itemsize <= 8 else -array
    if what != "removed":
        arrays[name + "x" * (what == "renamed")] = array.copy(order="C")
    return f"an array: {what}", save(arrays, metadata)


def _in_parquet(content: bytes, inner: str, rng: random.Random) -> tuple[str, bytes]:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    table = pq.read_table(io.BytesIO(content))
    name = rng.choice(table.column_names)
    place = table.column_names.index(name)
    what = rng.choice(("metadata", "metadata", "removed", "renamed", "nulls", "rows", "text"))
    if what == "metadata":
        metadata = dict(table.schema.metadata or {})
        key = rng.choice([*metadata])
        metadata[key] = mutated(metadata[key], "json", rng)[1]
        table = table.replace_schema_metadata(metadata)
    elif what == "removed":
        table = table.remove_column(place)
    elif what == "renamed":
        table = table.rename_columns([n + "x" * (n == name) for n in table.column_names])
    elif what == "rows":
        table = table.slice(0, rng.choice((0, 1)))
    else:
        field = table.schema.field(name)
        values: Any = pa.nulls(len(table), field.type)
        if what == "text":
            values = pa.array([rng.choice(("", "{", "[]", "null", "1"))] * len(table))
        table = table.set_column(place, pa.field(name, values.type), values)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return f"in Parquet: {what}", buffer.getvalue()


def huge_picture(content: bytes, rng: random.Random) -> bytes:
    """A PNG that says of itself to be larger than any memory."""
    size = struct.pack(">II", *[rng.choice((0, 30_000, 2**31 - 1))] * 2)
    header = b"IHDR" + size + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


_OF_KIND: Mapping[str, Mapping[str, Mutator]] = {
    "text": OF_TEXT,
    "json": {**OF_TEXT, "another document": other_json},
    "npy": {"another array": other_array},
    "png": {"a huge picture": huge_picture},
}
_OFTEN = {
    "text": ["another number"] * 6,
    "json": ["another document"] * 40,
    "npy": ["another array"] * 20,
}
_WITHIN: Mapping[str, Callable[[bytes, str, random.Random], tuple[str, bytes]]] = {
    "gzip": _in_gzip,
    "zip": _in_zip,
    "safetensors": _in_safetensors,
    "parquet": _in_parquet,
}
