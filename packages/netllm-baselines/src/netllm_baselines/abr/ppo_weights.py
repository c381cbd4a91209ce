"""The file of a trained PPO actor, and its forward pass in NumPy."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from netllm_baselines import _files


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A multilayer perceptron with ReLU over standardised features."""

    mean: Float[np.ndarray, " feature"]
    """Subtracted from the features."""
    std: Float[np.ndarray, " feature"]
    """Divides them afterwards; the result is cut to [-5, 5]."""
    matrices: tuple[Float[np.ndarray, "inputs outputs"], ...]
    """One per layer."""
    biases: tuple[Float[np.ndarray, " outputs"], ...]
    """One per layer."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Setting, seed, steps, command and validation QoE of the training."""

    @property
    def levels(self) -> int:
        """Rates of the ladder that the actor chooses from."""
        return len(self.biases[-1])

    def logits(self, x: Float[np.ndarray, "batch feature"]) -> Float[np.ndarray, "batch level"]:
        """Unnormalised log-probability of each level."""
        x = np.clip((x - self.mean) / self.std, -5, 5)
        for matrix, bias in zip(self.matrices[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ matrix + bias, 0)
        logits: Float[np.ndarray, "batch level"] = x @ self.matrices[-1] + self.biases[-1]
        return logits

    def save(self, path: Path) -> None:
        """Write a `.npz`; a reader never sees half of it."""
        arrays: dict[str, Any] = {
            "mean": self.mean,
            "std": self.std,
            "meta": np.array(json.dumps(self.meta)),
        }
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            arrays |= {f"matrix{i}": matrix, f"bias{i}": bias}
        _files.write_npz(path, arrays)

    @classmethod
    def load(cls, path: Path) -> "Actor":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f"no PPO weights at {path}. Train some: netllm train-baseline abr ppo --out {path}"
            )
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                layers = range(sum(name.startswith("matrix") for name in file.files))
                return cls(
                    mean=file["mean"],
                    std=file["std"],
                    matrices=tuple(file[f"matrix{i}"] for i in layers),
                    biases=tuple(file[f"bias{i}"] for i in layers),
                    meta=json.loads(str(file["meta"])),
                )
        except _files.DAMAGED as error:
            raise ValueError(
                f"{path} must hold the weights of a PPO actor (.npz written by "
                f"`netllm train-baseline abr ppo`), but reading it failed: {error}"
            ) from error
