"""Trained perceptrons, such as the actor of PPO: their file, and the forward pass in NumPy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from netllm_baselines import _weights_files

if TYPE_CHECKING:
    from torch import nn


CUT = 5.0
"""Standardised features are cut to minus and plus this."""


@dataclass(frozen=True, kw_only=True)
class Perceptron:
    """A multilayer perceptron with ReLU over standardised features."""

    mean: Float[np.ndarray, " feature"]
    """Subtracted from the features."""
    std: Float[np.ndarray, " feature"]
    """Divides them afterwards; the result is cut to minus and plus `CUT`."""
    matrices: tuple[Float[np.ndarray, "inputs outputs"], ...]
    """One per layer."""
    biases: tuple[Float[np.ndarray, " outputs"], ...]
    """One per layer."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Setting, seed, steps, command and validation score of the training."""

    @property
    def outputs(self) -> int:
        """How many answers it chooses from."""
        return len(self.biases[-1])

    def logits(self, x: Float[np.ndarray, "batch feature"]) -> Float[np.ndarray, "batch answer"]:
        """Unnormalised log-probability of each answer."""
        x = np.clip((x - self.mean) / self.std, -CUT, CUT)
        for matrix, bias in zip(self.matrices[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ matrix + bias, 0)
        logits: Float[np.ndarray, "batch answer"] = x @ self.matrices[-1] + self.biases[-1]
        return logits

    def probabilities(
        self, x: Float[np.ndarray, "batch feature"]
    ) -> Float[np.ndarray, "batch answer"]:
        """Probability of each answer."""
        logits = self.logits(x)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: Float[np.ndarray, "batch answer"] = odds / odds.sum(axis=1, keepdims=True)
        return probabilities

    def drawn(
        self, x: Float[np.ndarray, "batch feature"], rng: np.random.Generator
    ) -> Int[np.ndarray, " batch"]:
        """Answers drawn by their probability."""
        below = self.probabilities(x).cumsum(axis=1)[:, :-1]
        drawn: Int[np.ndarray, " batch"] = (below < rng.random((len(below), 1))).sum(axis=1)
        return drawn

    def save(self, path: Path) -> None:
        """Write a `.npz`; a reader never sees half of it."""
        arrays: dict[str, Any] = {
            "mean": self.mean,
            "std": self.std,
        }
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            arrays |= {f"matrix{i}": matrix, f"bias{i}": bias}
        _weights_files.write_npz(path, _weights_files.with_meta(arrays, self.meta))

    @classmethod
    def of(
        cls,
        network: "nn.Sequential",
        *,
        mean: Float[np.ndarray, " feature"],
        std: Float[np.ndarray, " feature"],
        meta: Mapping[str, Any] = MappingProxyType({}),
    ) -> "Perceptron":
        """The linear layers of a torch network, copied."""
        from torch import nn

        layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        return cls(
            mean=mean,
            std=std,
            matrices=tuple(layer.weight.detach().numpy().T.copy() for layer in layers),
            biases=tuple(layer.bias.detach().numpy().copy() for layer in layers),
            meta=dict(meta),
        )

    def copy_into(self, network: "nn.Sequential") -> None:
        """Give the linear layers of a torch network these weights."""
        import torch
        from torch import nn

        layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        for layer, matrix, bias in zip(layers, self.matrices, self.biases, strict=True):
            weights = {"weight": torch.from_numpy(matrix.T), "bias": torch.from_numpy(bias)}
            layer.load_state_dict(weights)

    @classmethod
    def load(cls, path: Path, rival: str = "ppo", *, task: str = "abr") -> "Perceptron":
        """Read what `save` wrote.

        Args:
            path: the file.
            rival: whose weights it must hold, for messages.
            task: what that rival does.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else.
        """
        command = f"netllm train-baseline {task} {rival}"
        if not path.exists():
            raise FileNotFoundError(
                f"no weights of {rival} at {path}. Train some: {command} --out {path}"
            )
        what = f"the weights of {rival} (.npz written by `{command}`)"
        arrays, meta = _weights_files.read_npz(path, what)
        try:
            layers = range(sum(name.startswith("matrix") for name in arrays))
            _weights_files.check_shapes(arrays, _shapes(arrays, len(layers)))
            if not (arrays["std"] > 0).all():
                raise ValueError("`std` must be > 0")
        except (KeyError, IndexError, ValueError) as fault:
            raise _weights_files.damaged(path, what, fault) from None
        return cls(
            mean=arrays["mean"],
            std=arrays["std"],
            matrices=tuple(arrays[f"matrix{i}"] for i in layers),
            biases=tuple(arrays[f"bias{i}"] for i in layers),
            meta=meta,
        )


def _shapes(arrays: Mapping[str, np.ndarray], layers: int) -> dict[str, tuple[int, ...]]:
    """The shapes of all arrays, by how many outputs each layer has."""
    widths = [arrays["matrix0"].shape[0], *(len(arrays[f"bias{i}"]) for i in range(layers))]
    shapes: dict[str, tuple[int, ...]] = {"mean": (widths[0],), "std": (widths[0],)}
    for i in range(layers):
        shapes |= {f"matrix{i}": (widths[i], widths[i + 1]), f"bias{i}": (widths[i + 1],)}
    return shapes
