"""Observations between JSON and arrays, by a task's description of its fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from netllm.task import ObservationField

MOST_ROWS = 20_000
"""Rows of an axis of any length."""
MOST_DECISIONS = 1_024
"""Decisions of one request."""
_TEXT = 200
_annotated: Any = Annotated
"""The same, where types are made of what a task says."""
_DTYPES: Mapping[type, Any] = {float: np.float64, int: np.int64, bool: np.bool_, str: np.str_}

Fields = Mapping[str, ObservationField]
Arrays = dict[str, np.ndarray]
"""One observation, as `arrays` gives it: without a batch axis."""


def observation_type(task: str, fields: Fields) -> type[msgspec.Struct]:
    """The JSON object of one observation: what it must hold, and what a schema says of it."""
    members: list[Any] = []
    for name, field in fields.items():
        kind = _annotated[_kind(field), Meta(description=field.text)]
        members.append((name, kind) if field.default is None else (name, kind, field.default))
    required_first = sorted(members, key=len)
    return msgspec.defstruct(
        f"{task.title().replace('-', '')}Observation", required_first, forbid_unknown_fields=True
    )


def _kind(field: ObservationField) -> Any:
    """The type of a field's value."""
    kind: Any = field.kind
    if kind is str:
        kind = Annotated[str, Meta(max_length=_TEXT)]
    elif kind is not bool:
        bounds = {"ge": field.least, "le": field.most}
        if field.rows_of:
            bounds = {"ge": field.least or 0, "le": MOST_ROWS}
        whole = {k: kind(v) for k, v in bounds.items() if v is not None}
        kind = _annotated[kind, Meta(**whole)] if whole else kind
    for length in reversed(field.shape):
        least, most = (0, MOST_ROWS) if isinstance(length, str) else (length, length)
        kind = _annotated[list[kind], Meta(min_length=least, max_length=most)]
    return kind


def decisions_type(task: str, fields: Fields, *, remembers: bool) -> type[msgspec.Struct]:
    """The JSON object of a request for decisions."""
    title = task.title().replace("-", "")
    observation: Any = observation_type(task, fields)
    members: list[Any] = [("observation", observation)]
    if remembers:
        session = Annotated[str, Meta(max_length=_TEXT, description="As `sessions` named it.")]
        members.insert(0, ("session", session))
        number = Meta(
            ge=0,
            description="Number of this decision in its session, from 0. A step that "
            "was answered already is answered in the same way again.",
        )
        members.append(("step", Annotated[int, number] | None, None))
    one: Any = msgspec.defstruct(f"{title}Question", members, forbid_unknown_fields=True)
    several = Annotated[list[one], Meta(min_length=1, max_length=MOST_DECISIONS)]
    deadline = Meta(ge=0, description="When the fallback answers; the server's own if left out.")
    return msgspec.defstruct(
        f"{title}Questions",
        [("decisions", several), ("deadline_ms", Annotated[float, deadline] | None, None)],
        forbid_unknown_fields=True,
    )


def arrays(fields: Fields, observation: Any, *, where: str = "observation") -> Arrays:
    """One observation as arrays.

    Args:
        fields: what it holds.
        observation: of the type that `observation_type` made.
        where: its place in the request, for errors.

    Raises:
        ValueError: if fields differ in the rows of an axis that they share, or name a row that
            there is not; with the field.
    """
    found: Arrays = {}
    lengths: dict[str, tuple[str, int]] = {}
    for name, field in fields.items():
        value = getattr(observation, name)
        found[name] = np.array(value, _DTYPES[field.kind])
        if not field.axis:
            continue
        found[name] = found[name].reshape(-1, *field.shape[1:])
        first, length = lengths.setdefault(field.axis, (name, len(value)))
        if len(value) != length:
            raise ValueError(
                f"`{where}.{name}` must have as many rows as `{where}.{first}`, {length}, "
                f"got {len(value)}."
            )
    for name, field in fields.items():
        if field.rows_of:
            _, length = lengths[field.rows_of]
            wrong = found[name] >= length
            if wrong.any():
                raise ValueError(
                    f"`{where}.{name}` must hold rows of `{lengths[field.rows_of][0]}`, of which "
                    f"there are {length}, got {found[name][wrong].flat[0]}."
                )
    return found


def joined(fields: Fields, rows: Sequence[Arrays], episodes: Sequence[int]) -> Arrays:
    """A batch as simulators show it: numbers stacked, rows under one another, and `episode`."""
    starts: dict[str, np.ndarray] = {}
    for name, field in fields.items():
        if field.axis and field.axis not in starts:
            counts = [len(row[name]) for row in rows]
            starts[field.axis] = np.append(0, np.cumsum(counts)).astype(np.int64)
    batch: Arrays = {"episode": np.array(episodes, np.int64)}
    for name, field in fields.items():
        own = [row[name] for row in rows]
        if field.rows_of:
            begin = starts[field.rows_of]
            own = [np.where(a >= 0, a + first, a) for a, first in zip(own, begin, strict=False)]
        batch[name] = np.concatenate(own) if field.axis else np.stack(own)
    return batch | {f"{axis}_ptr": ptr for axis, ptr in starts.items()}


def split(fields: Fields, batch: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The observations of a batch one by one, as JSON holds them.

    Raises:
        ValueError: if the batch lacks a field.
    """
    if missing := [n for n, f in fields.items() if n not in batch and f.default is None]:
        raise ValueError(f"The observation must have the field {missing[0]!r}, got {[*batch]}.")
    present = {name: field for name, field in fields.items() if name in batch}
    axes = {field.axis for field in present.values() if field.axis}
    starts = {axis: batch[f"{axis}_ptr"].tolist() for axis in axes}
    whole = next(name for name, field in present.items() if not field.axis)
    return [
        {name: _of_row(batch[name], field, starts, row).tolist() for name, field in present.items()}
        for row in range(len(batch[whole]))
    ]


def _of_row(
    values: np.ndarray, field: ObservationField, starts: Mapping[str, list[int]], row: int
) -> np.ndarray:
    of_row: slice | int = row
    if field.axis:
        ptr = starts[field.axis]
        of_row = slice(ptr[row], ptr[row + 1])
    own = values[of_row]
    if field.rows_of:
        own = np.where(own >= 0, own - starts[field.rows_of][row], own)
    return own


def crossed(task: str, fields: Fields, batch: Mapping[str, np.ndarray]) -> list[Arrays]:
    """The observations of a batch one by one, as they are after a request."""
    kind = observation_type(task, fields)
    return [arrays(fields, msgspec.convert(one, kind)) for one in split(fields, batch)]


def zeros(fields: Fields) -> Arrays:
    """An observation of nothing but zeros, without rows of axes of any length."""
    return {
        name: np.zeros([0 if isinstance(n, str) else n for n in field.shape], _DTYPES[field.kind])
        for name, field in fields.items()
    }


def described(fields: Fields) -> dict[str, Any]:
    """What a client is told of the fields."""
    return {
        name: {
            "kind": field.kind.__name__,
            "shape": [*field.shape],
            "required": field.default is None,
            "text": field.text,
        }
        for name, field in fields.items()
    }
