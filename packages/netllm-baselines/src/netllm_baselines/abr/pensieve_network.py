"""Pensieve's network: its file, and its forward pass in NumPy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_baselines import _weights_files
from netllm_baselines.abr._session_memory import Observation
from netllm_baselines.abr.ppo_features import HISTORY

if TYPE_CHECKING:
    from torch import nn

UNITS = 128
TAPS = 4
SCALARS = ("rate", "buffer", "left")
SERIES = ("throughput", "delay", "sizes")
"""What is convolved over: past chunks, past chunks, and the levels of the next chunk."""


def inputs(observation: Observation) -> Float[ndarray, "batch feature"]:
    """What the network sees, in Pensieve's units: Mbit/s and s in tenths, MB, MB/s.

    Last rate, buffer, chunks left (of 48), then six throughputs, six download times, and the size
    of the next chunk at every level.
    """
    columns = (
        observation["rate_kbps"][:, None] / 1e4,
        observation["buffer_s"][:, None] / 10,
        observation["chunks_left"][:, None] / 48,
        observation["throughput_mbps"] / 8,
        observation["delay_s"] / 10,
        observation["sizes_mb"][:, 0],
    )
    return np.concatenate(columns, axis=1, dtype=np.float32)


def blocks(levels: int) -> dict[str, slice]:
    """Where in `inputs` each part of the network's input lies."""
    widths = dict.fromkeys(SCALARS, 1) | {"throughput": HISTORY, "delay": HISTORY, "sizes": levels}
    ends = np.cumsum([*widths.values()]).tolist()
    return {
        name: slice(end - width, end)
        for (name, width), end in zip(widths.items(), ends, strict=True)
    }


def shapes(levels: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights, as torch has them.

    Raises:
        ValueError: The ladder is shorter than a convolution.
    """
    if levels < TAPS:
        raise ValueError(f"The ladder must have at least {TAPS} rates, got {levels}.")
    merged = UNITS * (len(SCALARS) + 2 * (HISTORY - TAPS + 1) + levels - TAPS + 1)
    matrices: dict[str, tuple[int, ...]] = dict.fromkeys(SCALARS, (UNITS, 1))
    matrices |= dict.fromkeys(SERIES, (UNITS, 1, TAPS))
    matrices |= {"hidden": (UNITS, merged), "answer": (levels, UNITS)}
    return {f"{name}.weight": shape for name, shape in matrices.items()} | {
        f"{name}.bias": shape[:1] for name, shape in matrices.items()
    }


@dataclass(frozen=True, kw_only=True)
class PensieveNetwork:
    """Six branches of 128 units or filters of 4 taps, a layer of 128, and logits of the levels.

    Source: Mao et al., SIGCOMM 2017, section 4.2 and figure 5, its actor. It sees six past chunks,
    as every policy here does, instead of eight.
    """

    arrays: Mapping[str, Float[ndarray, "..."]]
    """Weights by name, see `shapes`."""
    meta: dict[str, Any] = field(default_factory=dict)
    """How they were made."""

    @property
    def levels(self) -> int:
        """Rates of the ladder that the network chooses from."""
        return len(self.arrays["answer.bias"])

    def logits(self, x: Float[ndarray, "batch feature"]) -> Float[ndarray, "batch level"]:
        """Unnormalised log-probability of each level, from what `inputs` gives."""
        at = blocks(self.levels)
        branches = [self._layer(name, x[:, at[name]]) for name in SCALARS]
        for name in SERIES:
            windows = np.lib.stride_tricks.sliding_window_view(x[:, at[name]], TAPS, axis=1)
            filtered = windows @ self.arrays[f"{name}.weight"][:, 0].T
            filtered = filtered + self.arrays[f"{name}.bias"]
            branches.append(filtered.transpose(0, 2, 1).reshape(len(x), -1))
        merged = np.maximum(np.concatenate(branches, axis=1), 0)
        return self._layer("answer", np.maximum(self._layer("hidden", merged), 0))

    def _layer(self, name: str, x: Float[ndarray, "batch _"]) -> Float[ndarray, "batch _"]:
        return x @ self.arrays[f"{name}.weight"].T + self.arrays[f"{name}.bias"]

    def save(self, path: Path) -> None:
        """Write a `.npz`; a reader never sees half of it."""
        _weights_files.write_npz(path, _weights_files.with_meta(self.arrays, self.meta))

    @classmethod
    def of(cls, network: "nn.Module", **meta: object) -> "PensieveNetwork":
        """The weights of a torch network, copied."""
        state = network.state_dict()
        return cls(arrays={name: t.numpy().copy() for name, t in state.items()}, meta=meta)

    @classmethod
    def load(cls, path: Path, rival: str) -> "PensieveNetwork":
        """Read what `save` wrote.

        Args:
            path: The file.
            rival: Whose weights it must hold, for messages.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It holds something else.
        """
        if not path.exists():
            raise FileNotFoundError(
                f"no weights of {rival} at {path}. Train some: netllm train-baseline abr {rival} "
                f"--out {path}"
            )
        what = f"the weights of {rival} (.npz written by `netllm train-baseline abr {rival}`)"
        arrays, meta = _weights_files.read_npz(path, what)
        try:
            _weights_files.check_shapes(arrays, shapes(len(arrays["answer.bias"])))
        except (KeyError, TypeError, ValueError) as fault:
            raise _weights_files.damaged(path, what, fault) from None
        return cls(arrays=arrays, meta=meta)
