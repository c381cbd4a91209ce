"""How a student of an adapted model learns: the GRU's network on the model's predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from netllm_baselines.vp.imitation import Imitator
from netllm_baselines.vp.weights_file import Weights
from torch import Tensor, nn

from netllm.task.student import Graph
from netllm.vp.student import Student

if TYPE_CHECKING:
    from netllm_sims.vp import Setting

EPOCHS = 4


class Training:
    """A student under training.

    Args:
        setting: where it will predict.
        seed: of everything random.

    Raises:
        ValueError: if the setting shows more than the viewer's own points, which a student sees.
    """

    file = "student.npz"

    def __init__(self, setting: Setting, *, seed: int) -> None:
        if setting.crowd or setting.memory:
            raise ValueError(
                f"A student of vp sees a viewer's own last points and nothing else, but setting "
                f"{setting.name!r} shows a memory or a crowd. Distil in a setting without."
            )
        self._setting, self._seed = setting, seed
        self._network = Imitator(seed=seed)

    def begin_with(self, file: Path) -> None:
        """Take the weights that `save` wrote."""
        self._network = Imitator(seed=self._seed, begun=_read(file))

    def learn(
        self, seen: Mapping[str, np.ndarray], wanted: Float[np.ndarray, "window horizon 3"]
    ) -> float:
        """Learn the predicted viewports; the mean error of the last pass in degrees."""
        return self._network.learn(
            seen["viewport_deg"], wanted, rate_hz=self._setting.rate_hz, epochs=EPOCHS
        )

    def policy(self, *, sample: bool = False) -> Student:
        """The student as it is."""
        weights = self._weights()
        return Student(self._setting, weights=replace(weights, meta=self._meta(weights)))

    @staticmethod
    def graph(file: Path) -> Graph:
        """The student of a file as a torch module, from viewports in degrees to viewports."""
        from netllm_baselines.vp.gru_network import network

        weights = _read(file)
        made = network(hidden=weights.meta["hidden"], horizon=weights.meta["horizon"])
        state = {name: torch.from_numpy(x.astype(np.float32)) for name, x in weights.arrays.items()}
        made.load_state_dict(state)
        known = torch.zeros(2, weights.meta["history"], 3)
        return Graph(_Viewports(made).eval(), {"viewport_deg": known}, "answer")

    def save(self, file: Path, meta: Mapping[str, Any]) -> None:
        """Write its weights, and what is known of them."""
        weights = self._weights()
        replace(weights, meta={**meta, **self._meta(weights)}).save(file)

    def _meta(self, weights: Weights) -> dict[str, Any]:
        return {**weights.meta, "kind": "student", "front_deg": self._setting.front_deg}

    def _weights(self) -> Weights:
        if self._network.weights is None:
            raise ValueError("A student must have learned, or begun with a file, to predict.")
        return self._network.weights


class _Viewports(nn.Module):
    """A network of offsets from the last viewport, as one of viewports."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Mapping[str, Tensor]) -> Float[Tensor, "row horizon 3"]:
        """The viewports that follow, in degrees: as `netllm_baselines` has valid ones."""
        known = inputs["viewport_deg"]
        roll, pitch, yaw = (known[:, -1:] + self.network(known, None)).unbind(-1)
        wrapped = [torch.remainder(angle + 180, 360) - 180 for angle in (roll, yaw)]
        return torch.stack([wrapped[0], pitch.clamp(-90, 90), wrapped[1]], dim=-1)


def _read(file: Path) -> Weights:
    return Weights.load(file, kind=Student.kind, train="netllm distil vp")
