"""A learned viewport predictor as a policy."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float
from netllm_sims.vp.geometry import turned
from numpy import ndarray

from netllm_baselines import _weights_files
from netllm_baselines.vp._observed_angles import Observation, seen, valid
from netllm_baselines.vp.weights_file import Weights, shipped

if TYPE_CHECKING:
    from netllm_sims.vp import Setting
    from torch import Tensor


class Learned:
    """A trained network that answers the horizon it was trained for, and rolls on beyond.

    Of a longer history than it was trained for it sees the last points; a longer horizon it reaches
    by taking its own answers for history.
    """

    kind: ClassVar[str]
    """As in `netllm train-baseline vp KIND`."""
    shipped_as: ClassVar[str] = ""
    """Name of the shipped weights, if it is not the kind."""

    def __init__(self, setting: "Setting", weights: Path | str | Weights | None) -> None:
        file: Path | None = None
        if not isinstance(weights, Weights):
            file = self._shipped(setting) if weights is None else Path(weights)
            weights = Weights.load(file, kind=self.kind, train=self._train())
        self.weights = weights
        self.horizon = setting.horizon
        self._setting = setting
        with _weights_files.naming(file):
            self._points = self._fitting(setting)
            self._network = self._build()
        # weights know where the front lay when they were trained
        front_deg = self.weights.meta.get("front_deg", setting.front_deg)
        self._turn_deg = front_deg - setting.front_deg

    @property
    def _name(self) -> str:
        """As in `netllm test vp --policy NAME`."""
        return self.shipped_as or self.kind

    def _shipped(self, setting: "Setting") -> Path:
        return shipped(f"{self._name}-{'synthetic' if setting.synthetic else 'default'}")

    def _train(self) -> str:
        return f"netllm train-baseline vp {self.kind} --out FILE.npz"

    def _fitting(self, setting: "Setting") -> int:
        """Points of history that the network wants.

        Raises:
            ValueError: The setting has fewer, or another rate.
        """
        meta = self.weights.meta
        if setting.history < meta["history"] or setting.rate_hz != meta["rate_hz"]:
            raise ValueError(
                f"these {self.kind} weights need a history of at least {meta['history']} points at "
                f"{meta['rate_hz']:g} Hz, setting {setting.name!r} has {setting.history} at "
                f"{setting.rate_hz:g} Hz. Train your own on that setting: {self._train()}, then "
                f"pass weights=FILE.npz; netllm test vp --policy {self._name}:FILE.npz."
            )
        return int(meta["history"])

    def _build(self) -> Any:
        """The network with its weights."""
        raise NotImplementedError

    def reset(self, seed: int) -> None:
        """Do nothing: every window stands alone."""

    def act(self, observation: Observation) -> Float[ndarray, "batch horizon 3"]:
        """Viewports of the coming points in degrees."""
        import torch

        known = turned(seen(observation, least=self._points, whose=self.kind), self._turn_deg)
        answers: list[ndarray] = []
        count = 0
        while count < self.horizon:
            history = known[:, -self._points :]
            with torch.inference_mode():
                offset = self._network(
                    torch.from_numpy(history.astype(np.float32)),
                    self._content(observation, later=count),
                )
            answers.append(valid(history[:, -1:] + offset.numpy().astype(np.float64)))
            known = np.concatenate([known, answers[-1]], axis=1)
            count += answers[-1].shape[1]
        return turned(np.concatenate(answers, axis=1)[:, : self.horizon], -self._turn_deg)

    def _content(
        self, observation: Observation, *, later: int
    ) -> "Tensor | Mapping[str, Tensor] | None":
        """What the network sees of the video, so many points after the observation."""
        return None


def load_into(make: Callable[[], Any], weights: Weights, *, kind: str) -> Any:
    """A network with these weights, ready to answer.

    Raises:
        ImportError: torch is missing.
        ValueError: The arrays do not fit the network that the file describes.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{kind} needs torch. In a clone: pip install './packages/netllm-baselines[learned]'"
        ) from error
    network = make()
    state = {name: torch.from_numpy(x.astype(np.float32)) for name, x in weights.arrays.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"the arrays of the {kind} weights do not fit the network that their metadata "
            f"describe: {error!s:.1000}"
        ) from error
    return network.eval().requires_grad_(False)
