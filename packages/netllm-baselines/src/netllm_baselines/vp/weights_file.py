"""The file of a trained viewport predictor: arrays in half precision, and how they were made."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy import ndarray

from netllm_baselines import _weights_files

_Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
_Finite = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]


class _Facts(msgspec.Struct):
    """What must fit, as the metadata say it."""

    history: _Count
    horizon: _Count
    rate_hz: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    hidden: _Count
    saliency: bool = False
    memory: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    crowd: bool = False
    front_deg: _Finite = 0.0


def _check_size(arrays: Mapping[str, ndarray], meta: Mapping[str, Any]) -> None:
    """Raise ValueError if the network would be far larger than its arrays."""
    numbers = sum(array.size for array in arrays.values())
    for name in ("hidden", "horizon"):
        if meta[name] > numbers or (name == "hidden" and meta[name] ** 2 > numbers):
            raise ValueError(f"`{name}` is {meta[name]}, but there are {numbers} numbers")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A network's parameters by name, with the provenance of their training."""

    arrays: dict[str, ndarray]
    """float16; computed with in float32."""
    meta: dict[str, Any] = field(default_factory=dict)
    """What must fit (`kind`, `history`, `horizon`, `rate_hz`, `saliency`, `hidden`), and setting,
    seed, recipe, command and validation error of the training."""

    def save(self, path: Path) -> None:
        """Write a `.npz`; a reader never sees half of it."""
        _weights_files.write_npz(path, {"meta": np.array(json.dumps(self.meta)), **self.arrays})

    @classmethod
    def load(cls, path: Path, *, kind: str, train: str) -> "Weights":
        """Read what `save` wrote.

        Args:
            path: The file.
            kind: Whose weights they must be, as `gru`.
            train: The command that makes some, for messages.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else, or the weights of another kind.
        """
        if not path.exists():
            raise FileNotFoundError(f"no {kind} weights at {path}. Train some: {train}")
        what = f"the weights of a {kind} (written by `{train}`)"
        arrays, meta = _weights_files.read_npz(path, what)
        if meta.get("kind") != kind:
            raise ValueError(
                f"{path}: must hold {what}, but they are of kind {meta.get('kind')!r:.80}."
            )
        try:
            msgspec.convert(meta, _Facts)
            _check_size(arrays, meta)
        except (msgspec.ValidationError, ValueError) as fault:
            raise _weights_files.damaged(
                path, f"{what} and, in `meta`, what must fit", fault
            ) from None
        return cls(arrays=arrays, meta=meta)


def shipped(name: str) -> Path:
    """Where this package keeps the weights `name`, as `gru-default`; they need not exist."""
    return Path(str(files("netllm_baselines.vp") / "weights" / f"{name}.npz"))
