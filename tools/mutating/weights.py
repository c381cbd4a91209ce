"""The loaders of published and trained weights: what they hold is finite and of its shape."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from mutating.judging import Subject, Wrong

_RULE = "as many finite numbers of the same names and shapes; metadata that says the same"
_OF_NUMBERS = {"*.npz": "zip:npy"}


def _arrays(path: Path) -> dict[str, Any]:
    import numpy as np

    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        arrays = load_file(path)
    else:
        with zipfile.ZipFile(path) as file:
            members = {name.removesuffix(".npy"): file.read(name) for name in file.namelist()}
        arrays = {n: np.load(io.BytesIO(c), allow_pickle=False) for n, c in members.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Wrong(f"{name} is not finite")
    return arrays


def _listed(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: [list(a.shape), a.ravel().astype(float).tolist()] for name, a in arrays.items()}


def _shaped(make: Callable[[Path], Path], expected: Callable[[Path], Any] | None = None) -> Any:
    """What a file says, if its arrays have the shapes of the valid one's."""
    shapes: dict[str, Any] = {}

    def says(path: Path) -> Any:
        if not shapes:
            import tempfile

            with tempfile.TemporaryDirectory() as folder:
                valid = _arrays(make(Path(folder)))
            shapes.update({name: a.shape for name, a in valid.items() if a.dtype.kind != "U"})
        arrays = _arrays(path)
        meta = arrays.pop("meta", None)
        if {name: a.shape for name, a in arrays.items()} != shapes:
            raise Wrong("its arrays have other names or shapes")
        said = {"arrays": _listed(arrays)}
        return said if meta is None else said | {"meta": json.loads(str(meta))}

    return says


def _make_genet(folder: Path) -> Path:
    import numpy as np

    random = np.random.default_rng(0)
    arrays = {}
    inputs = (1, 1, 6, 6, 6, 1)
    for name, count in zip(_BRANCHES, inputs, strict=True):
        shape = (count, 128) if name.startswith("fc") else (4, 1, count, 128)
        arrays |= {f"actor.{name}.W": random.normal(size=shape), f"actor.{name}.b": np.zeros(128)}
    for name, count, outputs in (("fc_hidden", 768, 128), ("fc_out", 128, 3)):
        weight = random.normal(size=(count, outputs))
        arrays |= {f"actor.{name}.W": weight, f"actor.{name}.b": np.zeros(outputs)}
    file = folder / "genet.npz"
    np.savez(file, **{name: a.astype(np.float32) for name, a in arrays.items()})
    return file


_BRANCHES = (
    "fc_bitrate",
    "fc_buffer",
    "conv_throughput",
    "conv_delay",
    "conv_chunksizes",
    "fc_remain",
)


def _genet(path: Path) -> Any:
    from netllm_baselines.abr import Genet
    from netllm_sims import abr

    policy = Genet(abr.setting("synthetic"), weights=path)
    layers = {f"{n}.W": w for n, (w, _) in policy._layers.items()}
    layers |= {f"{n}.b": b for n, (_, b) in policy._layers.items()}
    return {"arrays": _listed(layers)}


_genet_shapes = _shaped(_make_genet)


def _genet_says(path: Path) -> Any:
    _genet_shapes(path)
    arrays = _arrays(path)
    taken = {name: a[1, 0] if a.ndim == 4 else a for name, a in arrays.items()}
    return {"arrays": _listed({n.removeprefix("actor."): a for n, a in taken.items()})}


def _make_ppo(folder: Path) -> Path:
    import numpy as np
    from netllm_baselines.abr.ppo_features import width
    from netllm_baselines.perceptron import Perceptron

    random = np.random.default_rng(0)
    widths = (width(6), 8, 6)
    pairs = list(pairwise(widths))
    actor = Perceptron(
        mean=np.zeros(width(6)),
        std=np.ones(width(6)),
        matrices=tuple(random.normal(size=pair) for pair in pairs),
        biases=tuple(np.zeros(outputs) for _, outputs in pairs),
        meta={"setting": "synthetic", "seed": 0, "steps": 10},
    )
    actor.save(folder / "ppo.npz")
    return folder / "ppo.npz"


def _ppo(path: Path) -> Any:
    from netllm_baselines.abr import PPO
    from netllm_sims import abr

    actor = PPO(abr.setting("synthetic"), weights=path).actor
    layers = {"mean": actor.mean, "std": actor.std}
    for i, (matrix, bias) in enumerate(zip(actor.matrices, actor.biases, strict=True)):
        layers |= {f"matrix{i}": matrix, f"bias{i}": bias}
    return {"arrays": _listed(layers), "meta": actor.meta}


def _make_predictor(kind: str, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from importlib import import_module

        import torch
        from netllm_baselines.vp.weights_file import Weights

        network = import_module(f"netllm_baselines.vp.{kind}_network").network
        generator = torch.Generator().manual_seed(0)
        state = network(hidden=4, horizon=3, generator=generator, **options).state_dict()
        meta = {"kind": kind, "history": 5, "horizon": 3, "rate_hz": 5.0, "hidden": 4, **options}
        arrays = {name: x.numpy().astype("float16") for name, x in state.items()}
        Weights(arrays=arrays, meta=meta).save(folder / f"{kind}.npz")
        return folder / f"{kind}.npz"

    return make


def _predictor(name: str) -> Callable[[Path], Any]:
    def load(path: Path) -> Any:
        from netllm_baselines import vp
        from netllm_sims import vp as sims

        weights = getattr(vp, name)(sims.setting("synthetic"), weights=path).weights
        return {"arrays": _listed(weights.arrays), "meta": weights.meta}

    return load


def _make_decima(folder: Path) -> Path:
    import numpy as np
    from netllm_baselines.cjs.decima_weights import PERCEPTRONS, Weights

    inputs = {
        "prep": 5, "msg": 16, "update": 16, "dag": 21, "global": 16, "stage": 53, "executors": 36,
    }  # fmt: skip
    random = np.random.default_rng(0)
    arrays = {}
    for name, count in zip(PERCEPTRONS, inputs.values(), strict=True):
        widths = (count, 8, 4, 1 if "score" in name else 16)
        for layer, pair in zip((0, 2, 4), pairwise(widths), strict=True):
            weight = random.normal(size=pair[::-1]).astype(np.float32)
            arrays[f"{name}.{layer}.weight"] = weight
            arrays[f"{name}.{layer}.bias"] = np.zeros(pair[1], np.float32)
    Weights(arrays=arrays, meta={"seed": 0}).save(folder / "decima.safetensors")
    return folder / "decima.safetensors"


def _decima(path: Path) -> Any:
    from netllm_baselines.cjs import Decima
    from netllm_baselines.cjs.decima_weights import Weights
    from netllm_sims import cjs

    Decima(cjs.setting("synthetic"), weights=path)
    return {"arrays": _listed(Weights.load(path).arrays)}


def _make_cnn(folder: Path) -> Path:
    import torch
    from netllm_baselines.flows.cnn import Weights
    from netllm_baselines.flows.cnn_network import CNNNetwork
    from netllm_sims import flows

    classes = flows.setting("synthetic").classes
    torch.manual_seed(0)
    network = CNNNetwork(classes=len(classes), statistics=0, hidden=4, dropout=0.0)
    arrays = {name: x.numpy().astype("float16") for name, x in network.state_dict().items()}
    meta = {"kind": "flows-cnn", "classes": [*classes], "packets": 20, "hidden": 4}
    Weights(arrays=arrays, meta=meta).save(folder / "cnn.npz")
    return folder / "cnn.npz"


def _cnn(path: Path) -> Any:
    from netllm_baselines.flows import CNN
    from netllm_sims import flows

    weights = CNN(flows.setting("synthetic"), weights=path).weights
    return {"arrays": _listed(weights.arrays), "meta": weights.meta}


_GRU, _TRACK = _make_predictor("gru"), _make_predictor("track", saliency=False)

SUBJECTS = {
    "weights-genet": Subject(_OF_NUMBERS, _make_genet, _genet, _RULE, _genet_says),
    "weights-ppo": Subject(_OF_NUMBERS, _make_ppo, _ppo, _RULE, _shaped(_make_ppo)),
    "weights-gru": Subject(_OF_NUMBERS, _GRU, _predictor("GRU"), _RULE, _shaped(_GRU)),
    "weights-track": Subject(_OF_NUMBERS, _TRACK, _predictor("TRACK"), _RULE, _shaped(_TRACK)),
    "weights-cnn": Subject(_OF_NUMBERS, _make_cnn, _cnn, _RULE, _shaped(_make_cnn)),
    "weights-decima": Subject(
        {"*.safetensors": "safetensors"}, _make_decima, _decima, _RULE, _shaped(_make_decima)
    ),
}
