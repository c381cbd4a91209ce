"""Where pulled backbones lie."""

import json
import os
import sys
from pathlib import Path

_LONGEST_HEADER = 100_000_000
"""Bytes, as the library safetensors bounds it."""


def cache_folder(cache: str | os.PathLike[str] | None = None) -> Path:
    """The folder of everything that netllm downloads; it need not exist yet.

    The first of: ``cache``; the environment variable ``NETLLM_CACHE``; the platform's convention
    (``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows, ``$XDG_CACHE_HOME`` or
    ``~/.cache`` elsewhere) followed by ``netllm``.
    """
    chosen = cache or os.environ.get("NETLLM_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "netllm"


def backbone_folder(name: str, cache: str | os.PathLike[str] | None = None) -> Path:
    """Where the converted weights of the backbone ``name`` lie once pulled."""
    return cache_folder(cache) / "backbones" / name


def is_cached(name: str, cache: str | os.PathLike[str] | None = None) -> bool:
    """Whether ``name`` was pulled completely, and its files were not cut off since."""
    return is_whole(backbone_folder(name, cache))


def is_whole(folder: Path) -> bool:
    """Whether a model's folder has a configuration, and weights as long as their header says."""
    weights = folder / "model.safetensors"
    if not ((folder / "config.json").is_file() and weights.is_file()):
        return False
    with weights.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = raw.read(min(length, _LONGEST_HEADER))
    try:
        tensors = [one for name, one in json.loads(header).items() if name != "__metadata__"]
        end = max(one["data_offsets"][1] for one in tensors)
    except (ValueError, AttributeError, KeyError, TypeError):
        return False
    return bool(weights.stat().st_size == 8 + length + end)
