"""Files of weights: written whole or not at all, and checked before anything computes with them."""

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from netllm_sims.files import zips
from netllm_sims.files.json_reading import parse_json
from numpy import ndarray
from numpy.lib import format as npy

MOST_MB = 500
"""Megabytes of a file's arrays, unless the limit of `netllm_sims.files.reading` says otherwise."""
_META = "meta"


def write(path: Path, content: bytes) -> None:
    """Write a file; a reader never sees half of it.

    Raises:
        OSError: It cannot be written; what was there before stays.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with named_errors(path), part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def with_meta(arrays: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a `.npz`, with its metadata."""
    return {**arrays, _META: np.array(json.dumps(meta))}


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a `.npz`, as `write` does."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write(path, content.getvalue())


@contextmanager
def naming(file: Path | None) -> Iterator[None]:
    """A block in which weights are used: errors of what does not fit name the file they are of."""
    try:
        yield
    except ValueError as fault:
        raise ValueError(f"{file}: {fault}" if file else str(fault)) from fault


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """A block that writes `path`: an error that names no file names it and says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        said = f"{error.strerror}. Is the disk full? Free space, then train again"
        raise OSError(error.errno, said, str(path)) from error


def read_npz(
    path: Path, what: str, *, facts: bool = True
) -> tuple[dict[str, ndarray], dict[str, Any]]:
    """The arrays of a `.npz` without its metadata, and these.

    Nothing is unpickled. The arrays hold finite floating-point numbers.

    Args:
        path: The file.
        what: What it must hold, as `the weights of a GENET actor`, for messages.
        facts: Whether it must hold metadata, a JSON object as text under the name `meta`.

    Raises:
        ValueError: Something else or a damaged file, by name.
        FileNotFoundError: There is no such file.
    """
    try:
        with zips.opened(path, most_mb=MOST_MB) as archive:
            members = {name: archive.read(name, most_mb=MOST_MB) for name in archive.names}
        arrays = {name.removesuffix(".npy"): _array(name, one) for name, one in members.items()}
        meta = arrays.pop(_META) if facts else None
        check_finite(arrays)
        return arrays, {} if meta is None else _facts(path, meta)
    except FileNotFoundError:
        raise
    except Exception as fault:  # damaged headers raise errors of any kind
        raise damaged(path, what, fault) from fault


def damaged(path: Path, what: str, fault: object) -> ValueError:
    """The error of a file that holds something else than it must."""
    if isinstance(fault, KeyError):
        fault = f"there is no array {fault}"
    return ValueError(f"{path}: must hold {what}, but reading it failed: {fault!s:.500}")


def check_finite(arrays: Mapping[str, ndarray]) -> None:
    """Raise ValueError unless all arrays hold finite floating-point numbers."""
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise ValueError(f"`{name:.80}` must hold floating-point numbers, got {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"`{name:.80}` must hold finite numbers, got NaN or infinity")


def check_shapes(arrays: Mapping[str, ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless the arrays are these, by name and shape."""
    for name, shape in expected.items():
        if name not in arrays or arrays[name].shape != shape:
            got = f"shape {arrays[name].shape}" if name in arrays else f"{[*arrays]!s:.200}"
            raise ValueError(f"`{name}` must be of shape {shape}, got {got}")
    if others := [*(arrays.keys() - expected.keys())]:
        raise ValueError(f"it must hold nothing else, got {sorted(others)!s:.200}")


def _array(name: str, content: bytes) -> ndarray:
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    at = stream.tell()
    if dtype.hasobject:
        raise ValueError(f"`{name:.80}` must hold numbers, got Python objects, which are not read")
    if len(content) - at != prod(shape) * dtype.itemsize:
        raise ValueError(
            f"`{name:.80}` must hold {prod(shape) * dtype.itemsize} bytes as its header says, got "
            f"{len(content) - at}"
        )
    stream.seek(0)
    return np.load(stream, allow_pickle=False)


def _facts(path: Path, meta: ndarray) -> dict[str, Any]:
    if meta.dtype.kind != "U" or meta.ndim:
        raise ValueError(f"`meta` must be a text, got {meta.dtype} of shape {meta.shape}")
    facts = parse_json(str(meta).encode(), path)
    if not isinstance(facts, dict):
        raise ValueError(f"`meta` must be a JSON object, got {type(facts).__name__}")
    return facts
