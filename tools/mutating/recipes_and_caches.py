"""The loaders of TOML recipes, of pickled start pointers and of the encoders' cached features."""

from __future__ import annotations

import pickle
import tomllib
from pathlib import Path
from typing import Any

from mutating.files import NUMBER, written
from mutating.judging import Subject

_RECIPE = """command = "adapt"
task = "abr"
pool = "runs/pool"
steps = 400
seed = 3

[set]
latency_s = 0.1

[train]
learning_rate = 1e-4
"""
_POINTERS = [3, 17, 250, 99_999]
_DIGEST = "ab" + "0" * 62


def _recipe(path: Path) -> Any:
    from netllm.commands.recipe_files import _File

    return _File(path).content


def _recipe_says(path: Path) -> Any:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _make_pointers(folder: Path) -> Path:
    (folder / "ptrs.pkl").write_bytes(pickle.dumps(_POINTERS, protocol=2))
    return folder / "ptrs.pkl"


def _pointers(path: Path) -> Any:
    from netllm_sims.abr.published_starts import numbers

    try:
        return numbers(path.read_bytes())
    except ValueError as fault:  # it reads bytes: its caller names the file
        raise ValueError(f"{path}: {fault}") from fault


def _cache(folder: Path) -> Any:
    from netllm_encoders.image.cache import Cache

    return Cache(folder, {"model": "tiny", "size": 32})


def _make_cache(folder: Path) -> Path:
    import numpy as np

    features = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float16)
    _cache(folder).write(_DIGEST, features)
    return folder


def _features(folder: Path) -> Any:
    cache = _cache(folder)
    features = cache.read(_DIGEST)
    if features is None:
        raise ValueError(f"{cache.path(_DIGEST)}: it is absent, or damaged and made anew.")
    return features.tolist()


SUBJECTS = {
    "recipe": Subject(
        {"*.toml": "text"}, written("r.toml", _RECIPE), _recipe, NUMBER, _recipe_says
    ),
    "abr-pointers-pickle": Subject(
        {"*.pkl": "bytes"}, _make_pointers, _pointers, "a list of whole numbers",
        shape=lambda numbers: all(type(one) is int for one in numbers),
        special=("removed", "a folder", "a loop"),
    ),
    "features": Subject(
        {"*.npz": "bytes"}, _make_cache, _features, "the features as written, or none",
        special=("removed", "a folder", "a loop", "endless"),
    ),
}  # fmt: skip
