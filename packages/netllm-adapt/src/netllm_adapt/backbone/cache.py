"""Where pulled backbones lie, and whether they are still what was pulled."""

import json
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from netllm_adapt.files.digests import check_digests, write_digests, written_since

_log = logging.getLogger(__name__)

_PULL = "Run: netllm backbone pull {}"
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


def check(name: str, *, cache: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a pulled backbone whose files all have the digests that were kept of them.

    Raises:
        FileNotFoundError: If it was not pulled.
        ValueError: Naming the first file that was damaged or changed.
    """
    folder = backbone_folder(name, cache)
    if not is_cached(name, cache):
        raise FileNotFoundError(
            f"Backbone {name!r} must be pulled before it is checked; nothing whole lies in "
            f"{folder}. {_PULL.format(name)}"
        )
    if not check_digests(folder, again=_PULL.format(name)):
        _write_digests(folder)
    return folder


def verify(folder: Path, name: str) -> None:
    """Compare a pulled folder with its digests: quickly, unless a file was written since.

    A folder of an earlier version has none; they are kept from its first use on.

    Raises:
        ValueError: Naming the first file that was damaged or changed.
    """
    if not check_digests(folder, again=_PULL.format(name), quick=True) or written_since(folder):
        _write_digests(folder)


def is_sound(folder: Path) -> bool:
    """Whether no file of a pulled folder differs from its digest."""
    try:
        verify(folder, folder.name)
    except ValueError as error:
        _log.warning("%s", error)
        return False
    return True


def _write_digests(folder: Path) -> None:
    with suppress(OSError):  # a cache that only others may write is used as it is
        write_digests(folder, stamped=True)
