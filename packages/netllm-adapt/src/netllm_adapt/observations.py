"""A batch of observations as tensors that a model can read; else whose field it cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netllm_adapt.episodes import Ragged


class SessionError(ValueError):
    """One session of a batch cannot be answered; the others can, once it is left out.

    Args:
        message: what is wrong.
        session: the number in the observation's field `episode`, or else the row of the batch.
        row: of the batch.
        field: the observation's field.
    """

    def __init__(self, message: str, *, session: int, row: int, field: str) -> None:
        super().__init__(message)
        self.session = session
        self.row = row
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        """Worker processes give errors back by pickle."""
        remade = partial(SessionError, session=self.session, row=self.row, field=self.field)
        return remade, (str(self),)


def check_finite(
    observation: Mapping[str, np.ndarray | Ragged], *, unread: Collection[str] = ()
) -> None:
    """Raise unless all numbers are finite, also in 32 bits: one that is not reaches all its tokens.

    Args:
        observation: fields with a leading axis of sessions, or with one entry of `ptr` for each.
        unread: fields that may hold anything.

    Raises:
        SessionError: naming the first session with such a number, and the field.
    """
    for name, value in observation.items():
        values = np.asarray(value.values if isinstance(value, Ragged) else value)
        if name in unread or values.dtype.kind != "f":
            continue
        with np.errstate(over="ignore"):  # what is too large for 32 bits becomes infinite
            fine = np.isfinite(values.astype(np.float32, copy=False))
        if not fine.all():
            raise _error(observation, name, values, np.argwhere(~fine)[0])


def _error(observation: Mapping[str, Any], name: str, values: Any, index: Any) -> SessionError:
    field, row = observation[name], int(index[0]) if len(index) else 0
    if isinstance(field, Ragged):
        row = int(np.searchsorted(np.asarray(field.ptr), row, side="right")) - 1
    sessions = observation.get("episode")
    session = row if sessions is None else int(sessions[row])
    return SessionError(
        f"Session {session} (row {row} of the batch): `{name}` must hold finite numbers of 32 "
        f"bits, got {values[tuple(index)]}. Leave the session out, or correct what measures it.",
        session=session,
        row=row,
        field=name,
    )


def tensors(field: np.ndarray | Ragged) -> Tensor | Ragged:
    """A field from outside as tensors."""
    if isinstance(field, Ragged):
        return Ragged(as_tensor(field.values), as_tensor(field.ptr))
    return as_tensor(field)


def as_tensor(values: np.ndarray) -> Tensor:
    """A copy, so that read-only arrays serve too; fractions in float32."""
    tensor = torch.from_numpy(np.array(values))
    return tensor.float() if tensor.is_floating_point() else tensor
