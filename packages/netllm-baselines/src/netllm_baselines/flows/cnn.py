"""CNN: a small convolutional network, the learned rival."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from netllm_baselines import _weights_files

if TYPE_CHECKING:
    from netllm_sims.flows import Setting

COMMAND = "netllm train-baseline flows cnn"
_Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class _Facts(msgspec.Struct):
    """What must fit, as the metadata say it."""

    kind: str
    classes: Annotated[list[str], msgspec.Meta(min_length=1, max_length=100_000)]
    packets: _Count
    hidden: Annotated[int, msgspec.Meta(ge=1, le=4_096)]
    statistics: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A network's parameters by name, with the provenance of their training."""

    arrays: dict[str, ndarray]
    """float16; computed with in float32."""
    meta: dict[str, Any] = field(default_factory=dict)
    """What must fit (`classes`, `packets`, `statistics`, `hidden`), and setting, seed, recipe,
    command and validation score of the training."""

    def save(self, path: Path) -> None:
        """Write a `.npz`; a reader never sees half of it."""
        _weights_files.write_npz(path, {"meta": np.array(json.dumps(self.meta)), **self.arrays})

    @classmethod
    def load(cls, path: Path) -> "Weights":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file holds something else.
        """
        what = f"the weights of a classifier of flows (written by `{COMMAND}`)"
        if not path.exists():
            raise FileNotFoundError(f"no weights at {path}. Train some: {COMMAND} --out FILE.npz")
        arrays, meta = _weights_files.read_npz(path, what)
        try:
            if msgspec.convert(meta, _Facts).kind != "flows-cnn":
                raise ValueError(f"`kind` must be flows-cnn, got {meta['kind']!r:.80}")
        except ValueError as fault:
            raise _weights_files.damaged(path, what, fault) from None
        return cls(arrays=arrays, meta=meta)


class CNN:
    """A one-dimensional convolutional network over the first packets; see `cnn_network`.

    Source: Lotfollahi et al., Deep Packet (Soft Computing 2020), and Lopez-Martin et al. (IEEE
    Access 2017), whose convolutions run over packets' bytes and fields. Differences: it sees sizes,
    directions and gaps, and no bytes, which encryption hides.

    Args:
        setting: Where it answers; classes are matched by name.
        weights: A `.npz` written by `train_cnn`, or its content. None: those that ship, for the
            generator's classes and 30 packets; `netllm train-baseline flows cnn --setting
            unseen-hosts` made them.

    Raises:
        ModuleNotFoundError: torch is missing.
        FileNotFoundError: There is no such file.
        ValueError: Weights for other classes, statistics or more packets.
    """

    def __init__(self, setting: "Setting", *, weights: Path | str | Weights | None = None) -> None:
        file: Path | None = None
        if not isinstance(weights, Weights):
            file = self.shipped() if weights is None else Path(weights)
            weights = Weights.load(file)
        self.weights = weights
        facts = msgspec.convert(weights.meta, _Facts)
        self._packets = facts.packets
        self._places = setting.places(facts.classes)
        with _weights_files.naming(file):
            _check(facts, setting)
            self._network = _network(facts, weights)

    @staticmethod
    def shipped() -> Path:
        """Where the weights lie in this package."""
        return Path(str(files("netllm_baselines.flows") / "weights" / "cnn.npz"))

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Mapping[str, ndarray]) -> Float[ndarray, "batch class"]:
        """Probability of each class of the setting."""
        import torch

        from netllm_baselines.flows.cnn_network import tensors

        seen = tensors(observation)
        seen |= {name: seen[name][:, : self._packets] for name in ("sizes_bytes", "gaps_ms")}
        with torch.inference_mode():
            probabilities = self._network(seen).double().softmax(1).numpy()
        answer: Float[ndarray, "batch class"] = probabilities @ self._places
        return answer


def _check(facts: _Facts, setting: "Setting") -> None:
    fits = {*facts.classes} & {*setting.classes} and facts.packets <= setting.packets
    if not fits or tuple(facts.statistics) != setting.statistic_names:
        raise ValueError(
            f"these weights tell {', '.join(facts.classes)} by {facts.packets} packets and "
            f"{len(facts.statistics)} statistics; setting {setting.name!r} has "
            f"{', '.join(setting.classes)}, {setting.packets} packets and "
            f"{len(setting.statistic_names)} statistics. Train your own there: {COMMAND} --out "
            "FILE.npz, then --policy cnn:FILE.npz."
        )


def _network(facts: _Facts, weights: Weights) -> Any:
    import torch

    from netllm_baselines.flows.cnn_network import CNNNetwork

    sizes = {"classes": len(facts.classes), "statistics": len(facts.statistics)}
    network = CNNNetwork(**sizes, hidden=facts.hidden, dropout=0.0)
    arrays = {name: torch.from_numpy(x.astype(np.float32)) for name, x in weights.arrays.items()}
    try:
        network.load_state_dict(arrays)
    except RuntimeError as error:
        raise ValueError(
            f"the arrays of the weights do not fit the network that their metadata describe: "
            f"{error!s:.500}"
        ) from error
    return network.eval().requires_grad_(False)
