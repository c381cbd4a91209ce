"""The file of a trained viewport predictor: arrays in half precision, and how they were made."""

import json
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from netllm_baselines import _files


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
        _files.write_npz(path, {"meta": np.array(json.dumps(self.meta)), **self.arrays})

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
        if not path.is_file():
            raise FileNotFoundError(f"no {kind} weights at {path}. Train some: {train}")
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                meta = json.loads(str(file["meta"]))
                arrays = {name: file[name] for name in file.files if name != "meta"}
        except _files.DAMAGED as error:
            raise ValueError(
                f"{path} must hold the weights of a {kind} (written by `{train}`), "
                f"but reading it failed: {error}"
            ) from error
        found = meta.get("kind") if isinstance(meta, dict) else None
        if found != kind:
            raise ValueError(
                f"{path} must hold the weights of a {kind} (written by `{train}`), "
                f"but they are of kind {found!r}."
            )
        return cls(arrays=arrays, meta=meta)


def shipped(name: str) -> Path:
    """Where this package keeps the weights `name`, as `gru-default`; they need not exist."""
    return Path(str(files("netllm_baselines.vp") / "weights" / f"{name}.npz"))
