"""The file of Decima's weights, and how the compiled network takes them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines import _weights_files

PERCEPTRONS = (
    "encoder.node_encoder.mlp_prep",
    "encoder.node_encoder.mlp_msg",
    "encoder.node_encoder.mlp_update",
    "encoder.dag_encoder.mlp",
    "encoder.global_encoder.mlp",
    "stage_policy_network.mlp_score",
    "exec_policy_network.mlp_score",
)
"""Published names, in the order in which the compiled network numbers them."""
_LAYERS = (0, 2, 4)


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """A network's parameters by their published names, with the provenance of their training.

    Raises:
        ValueError: An array is missing, or layers do not fit one another.
    """

    arrays: dict[str, ndarray]
    """`NAME.{0,2,4}.weight` (outputs, inputs) and `.bias`, float32."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Setting, seed, recipe, command and validation result of the training."""

    def __post_init__(self) -> None:
        shapes = self.shapes
        stage, executors = shapes["stage_policy_network.mlp_score"], shapes[PERCEPTRONS[-1]]
        features = self.features
        expected = {
            "encoder.dag_encoder.mlp": features + 16,
            "stage_policy_network.mlp_score": features + 48,
            "exec_policy_network.mlp_score": 36 if features == 5 else features + 50,
        }
        for name, inputs in expected.items():
            if shapes[name][0] != inputs:
                raise ValueError(
                    f"{name} must take {inputs} inputs where stages have {features} features, "
                    f"got {shapes[name][0]}."
                )
        if features not in (5, 12) or (stage[-1], executors[-1]) != (1, 1):
            raise ValueError(
                f"A network must see 5 or 12 features and give one score, got {features} and "
                f"{stage[-1]} and {executors[-1]}."
            )

    @property
    def features(self) -> int:
        """Of a stage: 5 for the published network, 12 for the extended one."""
        return int(self.arrays[f"{PERCEPTRONS[0]}.0.weight"].shape[1])

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Inputs, hidden widths and outputs of each perceptron."""
        return {name: _widths(self.arrays, name) for name in PERCEPTRONS}

    def packed(self) -> tuple[Float[ndarray, "number"], Int[ndarray, "7 5"]]:
        """All parameters in one vector, weights as (inputs, outputs), and its layout."""
        parts: list[ndarray] = []
        layout, at = [], 0
        for name, widths in self.shapes.items():
            layout.append((at, *widths))
            for layer in _LAYERS:
                parts += [self.arrays[f"{name}.{layer}.weight"].T.ravel()]
                parts += [self.arrays[f"{name}.{layer}.bias"]]
            at = sum(part.size for part in parts)
        return np.concatenate(parts, dtype=np.float32), np.array(layout, np.int64)

    def save(self, path: Path) -> None:
        """Write a `.safetensors`; a reader never sees half of it."""
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        _weights_files.write(path, save(arrays, metadata={"meta": json.dumps(self.meta)}))

    @classmethod
    def load(cls, path: Path) -> "Weights":
        """Read what `save` wrote, or the published file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else.
        """
        from netllm_sims.files import reading
        from netllm_sims.files.json_reading import parse_json
        from safetensors import SafetensorError, safe_open

        if not path.exists():
            raise FileNotFoundError(
                f"{path}: there are no such weights of Decima. Set NETLLM_DATA to a folder that "
                "holds `cjs/weights/decima.safetensors`, or pass `weights`; netllm test cjs "
                "--policy decima:FILE.safetensors."
            )
        with reading.regular(path):
            pass  # a pipe or device is refused before anything waits for it
        try:
            with safe_open(path, framework="numpy") as file:
                text = (file.metadata() or {}).get("meta", "{}")
                names = file.keys()
                arrays = {name: file.get_tensor(name) for name in names}
            _weights_files.check_finite(arrays)
            meta = parse_json(text.encode(), path)
            if not isinstance(meta, dict):
                raise ValueError(f"`meta` must be a JSON object, got {type(meta).__name__}")
            return cls(arrays=arrays, meta=meta)
        except (SafetensorError, ValueError, TypeError, AttributeError, OSError) as error:
            raise ValueError(
                f"{path}: must hold the weights of Decima, but {error!s:.500}"
            ) from error


def _widths(arrays: Mapping[str, ndarray], name: str) -> tuple[int, ...]:
    widths: list[int] = []
    for layer in _LAYERS:
        weight, bias = (arrays.get(f"{name}.{layer}.{kind}") for kind in ("weight", "bias"))
        if weight is None or bias is None:
            raise ValueError(f"the arrays {name}.{layer}.weight and .bias must be there.")
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or widths[-1:] not in (
            [], [weight.shape[1]],
        ):  # fmt: skip
            raise ValueError(
                f"{name}.{layer} must follow on {widths} and have a bias per output, got shapes "
                f"{weight.shape} and {bias.shape}."
            )
        widths += [weight.shape[0]] if widths else list(weight.shape[::-1])
    return tuple(widths)
