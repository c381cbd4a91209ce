"""The published folder of pickled arrays, read without running any code that a file may hold."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy import ndarray
from numpy.lib import format as npy

from netllm_sims.cjs.dag import Dag, build, of
from netllm_sims.cjs.tpch import prepare
from netllm_sims.files import pickled_numbers, reading


def load_upstream(folder: str | Path) -> list[Dag]:
    """Graphs of `adj_mat_<query>.npy` and `task_duration_<query>.npy`.

    The folder holds these files, or folders of them, one per size. Only arrays, dictionaries,
    lists and numbers are unpickled; a file that asks for anything else is refused.

    Raises:
        ValueError: No such files, a file that cannot be read or is not what its name says, or
            `Dag` finds a fault.
    """
    folder = Path(folder)
    files = sorted([*folder.glob("adj_mat_*.npy"), *folder.glob("*/adj_mat_*.npy")], key=_order)
    if not files:
        raise ValueError(f"{folder}: must hold files adj_mat_*.npy, got none.")
    others = [*folder.glob("task_duration_*.npy"), *folder.glob("*/task_duration_*.npy")]
    for other in others:
        matrix = other.with_name(other.name.replace("task_duration_", "adj_mat_"))
        if matrix not in files:
            raise ValueError(f"{other}: there must be {matrix.name} beside it, got none.")
    return [_profile(file) for file in files]


def _order(file: Path) -> tuple[str, int, str]:
    query = file.stem.removeprefix("adj_mat_")
    return str(file.parent), int(query) if query.isdigit() else -1, query


def _profile(file: Path) -> Dag:
    query = file.stem.removeprefix("adj_mat_")
    durations = file.with_name(f"task_duration_{query}.npy")
    matrix = _load(file)
    stages = _load(durations)
    stages = stages.item() if isinstance(stages, ndarray) and stages.ndim == 0 else stages
    if not isinstance(matrix, ndarray) or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{file}: must hold a square matrix, got {_what(matrix)}.")
    if not isinstance(stages, dict) or len(stages) != len(matrix):
        raise ValueError(
            f"{durations}: must hold a dictionary of {len(matrix)} stages, got {_what(stages)}."
        )
    try:
        waves = [
            prepare(*(stages[k][name] for name in ("fresh_durations", "first_wave", "rest_wave")))
            for k in range(len(matrix))
        ]
        with of(f"{file} and {durations.name}"):
            return build(f"{file.parent.name}-{query}", waves, np.argwhere(matrix).tolist())
    except (KeyError, TypeError, AttributeError, IndexError, StopIteration) as fault:
        raise ValueError(
            f"{durations}: each stage 0 to {len(matrix) - 1} must hold fresh_durations, first_wave "
            f"and rest_wave by number of executors, got {type(fault).__name__}: {fault}."
        ) from fault


def _what(value: object) -> str:
    if isinstance(value, ndarray):
        return f"an array of shape {value.shape}"
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, dict) else repr(value)


def _load(file: Path) -> Any:
    try:
        with reading.regular(file) as stream:
            return _read(stream)
    except FileNotFoundError:
        raise ValueError(f"{file}: there is no such file beside the other one.") from None
    except Exception as fault:  # damaged headers and pickles raise errors of any kind
        raise ValueError(
            f"{file}: must hold an array of plain numbers or dictionaries of them, but "
            f"{fault or type(fault).__name__}. It was not read."
        ) from fault


def _read(stream: BinaryIO) -> Any:
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    _, _, dtype = read_header(stream)
    if dtype.hasobject:
        return pickled_numbers.load(stream)
    stream.seek(0)
    return np.load(stream, allow_pickle=False)
